package tests

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The tests with a real SIP proxy of any kind. They have the sipwake of a rig, and phones on
// real sockets to which the simulated APNs and FCM deliver. A call goes INVITE, held, push,
// simulator, phone, REGISTER, INVITE, 200, ACK, BYE.
//
// The scenarios are in tables that do not depend on the kind of proxy. Each kind and its own
// tests are in a separate file, such as kamailio_test.go.

const (
	domain          = "example.com"
	scenarioTimeout = 60 * time.Second // until a scenario counts as stuck
	aged            = 250 * time.Millisecond
)

// proxyKind is a kind of SIP proxy.
type proxyKind struct {
	name string // Kamailio
	node string // type of a node in sipwake's configuration
	// find reports whether there is one on this machine. If not, the test is skipped,
	// unless the environment variable required is set.
	find     func() error
	required string
	// quiet: ordinary traffic causes no ERROR line in its log.
	quiet bool
	// ownContact: its answer to a REGISTER has the phone's own Contact unchanged.
	ownContact bool
	// start starts a proxy as node nodeID, which accepts signals with nodeSecret, and
	// returns when it answers SIP and accepts signals.
	start func(context.Context, proxyConfig) (proxy, error)
	// cannot has what is skipped on this kind, and why: by the name of a table, or
	// "table: scenario".
	cannot map[string]string
}

// proxyKinds returns the kinds on which every test runs whose name does not name a kind.
func proxyKinds() []proxyKind { return []proxyKind{kamailio(), openSIPS()} }

// proxyConfig configures a proxy. The default of a field is that of the script, unless the
// field says otherwise.
type proxyConfig struct {
	URL            string // of sipwake's RPC interface; default that of the rig
	Hold, ChatHold time.Duration
	// Awake is how long a phone on UDP counts as awake after it has registered, in whole
	// seconds. Default 0: a phone that closes its UDP socket sleeps at once.
	Awake time.Duration
	// Silence is how long a phone may leave an INVITE without any answer.
	Silence time.Duration
	// SipwakeTimeout is how long sipwake may take to answer.
	SipwakeTimeout time.Duration
	Strict         bool // RFC 8599: no phone with push is rung before it registers again
	Ask            bool // sipwake decides on each REGISTER with push data
	// AnswerFirst: REGISTERs are answered by the proxy's own lists.
	AnswerFirst bool
	Refuse555   bool // REGISTERs with push services that are not served
	Down480     bool // phones that sleep are not tried while sipwake is down
	Hostile     bool // it gets what it must complain of
	// Headers are the names of headers that go into pushes, separated by spaces.
	Headers string
	// Methods are further methods whose requests wake phones, separated by spaces.
	Methods string
	// PushID adds the UUID of the push to the INVITE for a woken phone.
	PushID bool
}

// proxy is one that runs.
type proxy interface {
	SIPAddress() string // host:port for SIP over UDP and TCP
	SignalURL() string  // where it takes sipwake's signals
	Exited() <-chan struct{}
	Log() string // a file
	Stop()
}

// table is a set of scenarios that share a sipwake and a proxy, each with its own users.
type table struct {
	name      string
	sipwake   rigOptions
	proxy     proxyConfig
	scenarios scenarios
}

type scenarios map[string]func(*scenario)

// run starts what the table needs and runs its scenarios in parallel.
func (tb table) run(t *testing.T, kind proxyKind) { tb.play(t, tb.start(t, kind)) }

// onEveryProxy runs tables on each kind of proxy.
func onEveryProxy(t *testing.T, tables ...table) {
	for _, kind := range proxyKinds() {
		t.Run(kind.name, func(t *testing.T) {
			for _, tb := range tables {
				t.Run(tb.name, func(t *testing.T) { tb.run(t, kind) })
			}
		})
	}
}

// play runs the scenarios on a rig.
func (tb table) play(t *testing.T, p *proxyRig) {
	for what := range p.kind.cannot {
		if name, ok := strings.CutPrefix(what, tb.name+": "); ok && tb.scenarios[name] == nil {
			t.Errorf("%s cannot %q, which is no scenario", p.kind.name, what)
		}
	}
	for name, f := range tb.scenarios {
		t.Run(name, func(t *testing.T) {
			p.kind.needs(t, tb.name+": "+name)
			t.Parallel()
			f(p.scenario(t))
		})
	}
}

// needs skips the test if this kind cannot do something.
func (kind proxyKind) needs(t *testing.T, what string) {
	t.Helper()
	if why, ok := kind.cannot[what]; ok {
		t.Skipf("%s cannot: %s", kind.name, why)
	}
}

// proxyRig is a rig whose node is a real proxy.
type proxyRig struct {
	*rig
	kind   proxyKind
	proxy  proxy
	users  *atomic.Int64
	tokens *atomic.Int64
	every  option // of each phone, before its own; may be nil
}

// start starts a sipwake and a proxy that know each other, or only a proxy if the table has
// the URL of another sipwake. By default the parked leg outlives the last phone's return by
// a second. Timeouts are long, so that a slow machine does not decide a test.
func (tb table) start(t *testing.T, kind proxyKind) *proxyRig {
	t.Helper()
	kind.needs(t, tb.name)
	kind.found(t)
	p := &proxyRig{rig: &rig{t: t}, kind: kind, users: new(atomic.Int64), tokens: new(atomic.Int64)}
	o, c := tb.sipwake, tb.proxy
	if c.URL != "" {
		p.proxy = kind.run(t, c)
		return p
	}
	if o.wake == "" {
		o.wake = "  linger: 1s"
	}
	o.rpc = "  deadline: 10s"
	p.rig = newRig(t, o)
	c.URL = p.url
	if c.SipwakeTimeout == 0 {
		c.SipwakeTimeout = 10 * time.Second
	}
	p.proxy = kind.run(t, c)
	// Stop sipwake before the proxy: it repeats signals until they are answered.
	t.Cleanup(func() { stop(t, p.app) })
	p.edit("    team_id:", "    timeout: 15s\n    call_timeout: 15s\n    team_id:")
	p.edit("    credentials_file:", "    timeout: 15s\n    call_timeout: 15s\n    credentials_file:")
	// Each needs the other's address first, so a reload adds the node.
	p.edit("    url: "+p.node.url(), "    type: "+kind.node+"\n    url: "+p.proxy.SignalURL())
	p.reload()
	return p
}

// found skips the test if there is no proxy of the kind, unless there must be.
func (kind proxyKind) found(t *testing.T) {
	t.Helper()
	if err := kind.find(); err != nil {
		if os.Getenv(kind.required) != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// complaints matches log lines of a proxy that the tests themselves cause.
var complaints = regexp.MustCompile(strings.Join([]string{
	"tcp_main.c", "tcp_read.c", "msg_send_buffer", // phones that are gone
	"buffer rewrite attempt",                  // tm: two branches for a call that is cancelled in that instant
	"check_multi_info", "connect refused for", // a sipwake that is gone, or is somebody else
	"invalid cseq for aor",      // REGISTERs that overtake each other
	"_reply_light", "rpc_reply", // a call that is given up when it ends in that instant
	"stateless error reply used", // sl: a request for a phone that is gone
	"transaction not found 0:0",  // http_async_client: a call that is answered in the instant in which sipwake is asked
	"failure to add branches",    // a phone that is signalled in the instant in which it begins to ring
}, "|"))

// run starts a proxy and watches it.
func (kind proxyKind) run(t *testing.T, c proxyConfig) proxy {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scenarioTimeout)
	defer cancel()
	p, err := kind.start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	kind.quiet = kind.quiet && !c.Hostile
	kind.watch(t, p)
	return p
}

// watch stops the proxy at the end of the test, and checks that it was still running and
// logged no error of its own.
func (kind proxyKind) watch(t *testing.T, p proxy) {
	t.Cleanup(func() {
		select {
		case <-p.Exited():
			t.Errorf("%s ended by itself", kind.name)
		default:
		}
		log, err := os.ReadFile(p.Log())
		if err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(string(log)) {
			if complaints.MatchString(line) {
				continue
			}
			if kind.quiet && strings.Contains(line, " ERROR:") {
				t.Errorf("%s: %s", kind.name, line)
			}
			for _, bad := range []string{"CRITICAL", "BUG", "by a signal", "no memory", "can't alloc"} {
				if strings.Contains(line, bad) {
					t.Errorf("%s: %s", kind.name, line)
				}
			}
		}
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", kind.name, log[max(0, len(log)-2000):])
		}
		p.Stop()
	})
}

// requests returns how many RPC requests there were, by method and error code; ""
// stands for any.
func (r *rig) requests(method, code string) int {
	r.t.Helper()
	_, text := r.get("/metrics")
	total := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "sipwake_rpc_requests_total{") ||
			method != "" && !strings.Contains(line, fmt.Sprintf("method=%q", method)) ||
			code != "" && !strings.Contains(line, fmt.Sprintf("code=%q", code)) {
			continue
		}
		_, value, _ := strings.Cut(line, "} ")
		n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			r.t.Fatal(err)
		}
		total += int(n)
	}
	return total
}
