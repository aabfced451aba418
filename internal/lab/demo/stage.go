package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/lab/leak"
	"github.com/sipwake/sipwake/internal/lab/phone"
	"github.com/sipwake/sipwake/internal/lab/services"
	"github.com/sipwake/sipwake/internal/lab/stack"
)

const (
	demoDomain = "example.com"
	demoNode   = "sip1"
	demoSecret = "5e0c71-of-the-demo"
)

// stage has all servers of a demo.
type stage struct {
	dir     string
	sipwake string // program
	store   string
	kind    proxyKind
	bundles []string // iOS apps besides the demo's
	config  string   // further configuration of sipwake

	ports      ports
	push       services.Options
	services   *services.Services
	configFile string // of sipwake
	proxy      proxy
	rpc        string // URL
	operations string // host:port
	quiet      bool   // timelines are not printed
	children   stack.Group
	logs       []logged
}

// ports are the ports on 127.0.0.1 to listen on; 0 picks a free one.
type ports struct{ sip, rpc, operations int }

// pick returns the port, or a free one if it is 0.
func pick(port int) (int, error) {
	if port != 0 {
		return port, nil
	}
	return stack.FreePort("127.0.0.1")
}

// logged is a server with a log.
type logged interface {
	Log() string // file
	LogTail() string
}

// start starts the simulators, Redis if wanted, the SIP proxy and sipwake.
func (s *stage) start(ctx context.Context) (err error) {
	if s.services, err = services.Start(s.push); err != nil {
		return err
	}
	rpcPort, err := pick(s.ports.rpc)
	if err != nil {
		return err
	}
	s.rpc = fmt.Sprintf("http://127.0.0.1:%d/rpc", rpcPort)
	if s.proxy, err = s.kind.start(ctx, s.rpc, s.ports.sip); err != nil {
		return err
	}
	s.children.Add(s.proxy)
	s.logs = append(s.logs, s.proxy)
	store := "  type: local\n  local:\n    path: " + s.dir + "/bindings.db"
	if s.store == "redis" {
		r, err := stack.StartRedis(ctx, stack.RedisConfig{})
		if err != nil {
			return err
		}
		s.children.Add(r)
		store = "  type: redis\n  redis:\n    addresses: [\"" + r.Address() + "\"]\n  fallback:\n    spool: " + s.dir + "/spool"
	}
	return s.startSipwake(ctx, rpcPort, store)
}

func (s *stage) startSipwake(ctx context.Context, rpcPort int, store string) error {
	opsPort, err := pick(s.ports.operations)
	if err != nil {
		return err
	}
	s.operations = fmt.Sprintf("127.0.0.1:%d", opsPort)
	leak.Secret(demoSecret)
	secret, err := s.writeFile("node.secret", []byte(demoSecret))
	if err != nil {
		return err
	}
	apps, err := s.services.WriteConfig(s.dir, services.Apps{Team: demoTeam, Bundles: append([]string{demoBundle}, s.bundles...), Project: demoProject})
	if err != nil {
		return err
	}
	s.configFile, err = s.writeFile("sipwake.yml", fmt.Appendf(nil, `rpc:
  listen: 127.0.0.1:%d
operations:
  listen: %s
  exemplars: true
log:
  level: debug
store:
%s
nodes:
  - id: %s
    type: %s
    url: %s
    secret_file: %s
%s%s`, rpcPort, s.operations, store, demoNode, s.kind.node, s.proxy.SignalURL(), secret, apps, s.config))
	if err != nil {
		return err
	}
	child, err := stack.StartSipwake(ctx, stack.SipwakeConfig{Program: s.sipwake, Config: s.configFile,
		Operations: s.operations})
	if err != nil {
		return err
	}
	s.children.Add(child)
	s.logs = append(s.logs, child)
	return nil
}

func (s *stage) stop() {
	s.children.Stop()
	if s.services != nil {
		s.services.Close()
	}
}

func (s *stage) printLogs() {
	for _, p := range s.logs {
		fmt.Printf("   --- end of %s\n", p.Log())
		for _, line := range strings.Split(strings.TrimSpace(p.LogTail()), "\n") {
			fmt.Println("   ", line)
		}
	}
}

func (s *stage) pushes(token string) int {
	n := 0
	for _, p := range s.services.APNs.Pushes() {
		if p.Token.Reveal() == token {
			n++
		}
	}
	for _, p := range s.services.FCM.Pushes() {
		if p.Token.Reveal() == token {
			n++
		}
	}
	return n
}

// call calls a method of sipwake.
func (s *stage) call(ctx context.Context, method string, params, result any) error {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.rpc, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer := struct {
		Result any
		Error  *struct{ Message string }
	}{Result: result}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return fmt.Errorf("cannot read the answer of %s: %w", method, err)
	}
	if answer.Error != nil {
		return fmt.Errorf("%s: %s", method, answer.Error.Message)
	}
	return nil
}

// wakeTrace is what the demo reads of wake.trace.
type wakeTrace struct {
	Reason string
	Events []struct {
		AtMS   int64 `json:"at_ms"`
		Event  string
		Detail string
	}
}

// poll queries sipwake until done returns true, because the proxy reports to it later.
func (s *stage) poll(ctx context.Context, what string, done func() (bool, error)) error {
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("sipwake never knew %s", what)
		}
	}
}

// binding is what the demo reads of binding.list.
type binding struct {
	Expires time.Time `json:"expires_at"`
}

func (s *stage) bindings(ctx context.Context, user string) ([]binding, error) {
	var res struct{ Bindings []binding }
	err := s.call(ctx, "binding.list", map[string]string{"aor": user + "@" + demoDomain}, &res)
	return res.Bindings, err
}

// bound waits until sipwake has the phone's binding, registered or not.
func (s *stage) bound(ctx context.Context, user string, registered bool) error {
	return s.poll(ctx, "the phone of "+user, func() (bool, error) {
		b, err := s.bindings(ctx, user)
		return len(b) == 1 && b[0].Expires.After(time.Now()) == registered, err
	})
}

// unbound waits until the user has no binding.
func (s *stage) unbound(ctx context.Context, user string) error {
	return s.poll(ctx, "that the phone of "+user+" is gone", func() (bool, error) {
		b, err := s.bindings(ctx, user)
		return len(b) == 0, err
	})
}

// which names a call to wake.trace.
func (s *stage) which(user string, call *phone.Call) map[string]string {
	if s.kind.pbx {
		return map[string]string{"aor": user + "@" + demoDomain}
	}
	return map[string]string{"call_id": call.CallID()}
}

func (s *stage) trace(ctx context.Context, which map[string]string) (wakeTrace, error) {
	var res struct{ Wakes []wakeTrace }
	err := s.call(ctx, "wake.trace", which, &res)
	if err != nil || len(res.Wakes) == 0 {
		return wakeTrace{}, err
	}
	return res.Wakes[0], nil
}

// waitForPush waits until the push service has accepted the call's push.
func (s *stage) waitForPush(ctx context.Context, which map[string]string) error {
	return s.poll(ctx, "that the push was accepted", func() (bool, error) {
		t, err := s.trace(ctx, which)
		for _, e := range t.Events {
			if e.Event == "accepted" {
				return true, err
			}
		}
		return false, err
	})
}

// ended waits until sipwake knows that the call is over, and returns its trace.
func (s *stage) ended(ctx context.Context, which map[string]string) (t wakeTrace, err error) {
	err = s.poll(ctx, "the end of the call", func() (bool, error) {
		t, err = s.trace(ctx, which)
		return t.Reason != "", err
	})
	return t, err
}
