package chaos

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/lab/stack"
)

const (
	dirPrefix = "sipwake-chaos-"
	secret    = "chaos-secret"
	instances = 3
	// pushLatency is how long a push service takes to answer: time for a sipwake to die
	// during a push.
	pushLatency = 150 * time.Millisecond
	// nodeGrace is how long the other node may take to notice that a node is back.
	nodeGrace  = 2 * time.Second
	nodeMemory = 512 // for calls that a node holds, in MB
	spoolSize  = 8   // of a spool's disk, in MB
	// providerGrace is how long pushes may still fail after a provider works again,
	// because of tries that began before (4s) and the pause of the breaker (2s).
	providerGrace = 7 * time.Second
)

// world is everything that runs.
type world struct {
	config Config
	dir    string
	times  *times
	ledger *ledger
	net    *network // nil without root
	noNet  string   // why
	noSlow string   // why no disk can be slow

	memory   *memory // nil without a cgroup
	noMemory string  // why

	clock   *stack.Clock // of the sipwake clocked; nil without Go
	noClock string       // why

	apns       *apnssim.Server
	fcm        *fcmsim.Server
	relays     map[string]*relay // by provider
	redis      *redisGroup
	sipwakes   []*instance
	noOpenSIPS string // why there is none
	nodes      []*node
	fronts     []*front
	calls      *caller
	crowd      *crowd
	strangers  *strangers
	servers    []*server // all, in the order of their start
	sleepers   []*sleeper
	verdicts   *verdicts
	telling    sync.Mutex // of one story at a time
	stories    int
}

// instance is one sipwake.
type instance struct {
	*server
	id         int
	rpc        string // URL
	operations string // host:port
	config     string // file
	spool      string // directory, a disk of its own
}

// start starts everything. Call stop even after an error.
func (w *world) start(ctx context.Context) (err error) {
	if w.net, w.noNet, err = newNetwork(); err != nil {
		return err
	}
	w.memory, w.noMemory = newMemory()
	if w.apns, err = apnssim.Start(apnssim.Options{Latency: pushLatency}); err != nil {
		return err
	}
	if w.fcm, err = fcmsim.Start(fcmsim.Options{Latency: pushLatency}); err != nil {
		return err
	}
	for provider, url := range map[string]string{apns: w.apns.URL(), fcm: w.fcm.URL()} {
		if w.relays[provider], err = startRelay(strings.TrimPrefix(url, "https://")); err != nil {
			return err
		}
	}
	w.crowd = &crowd{w: w}
	if w.strangers, err = newStrangers(); err != nil {
		return err
	}
	if w.redis, err = startRedis(ctx, w); err != nil {
		return err
	}
	if err := w.planSipwakes(); err != nil {
		return err
	}
	if err := w.startNodes(ctx); err != nil {
		return err
	}
	if err := w.startSipwakes(ctx); err != nil {
		return err
	}
	for i := range w.config.phones() {
		s, err := w.newSleeper(i)
		if err != nil {
			return err
		}
		w.sleepers = append(w.sleepers, s)
	}
	for _, s := range w.sleepers {
		if err := s.enrol(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stop ends everything.
func (w *world) stop() {
	for _, s := range w.sleepers {
		s.phone.Close()
	}
	if w.redis != nil {
		w.redis.close()
	}
	// The sipwakes need Redis to hand over open wakes, so Redis stops last.
	stopAll(w.servers[min(len(w.servers), 2*redisServers):])
	stopAll(w.servers[:min(len(w.servers), 2*redisServers)])
	for _, f := range w.fronts {
		f.close()
	}
	if w.calls != nil {
		w.calls.close()
	}
	if w.strangers != nil {
		w.strangers.close()
	}
	for _, r := range w.relays {
		r.close()
	}
	if w.apns != nil {
		w.apns.Close()
	}
	if w.fcm != nil {
		w.fcm.Close()
	}
	if w.net != nil {
		w.net.close()
	}
	if w.memory != nil {
		w.memory.remove()
	}
}

func stopAll(all []*server) {
	var work sync.WaitGroup
	for _, s := range all {
		if p := s.process(); p != nil {
			work.Go(p.Stop)
		}
	}
	work.Wait()
}

// planSipwakes chooses the addresses of the sipwakes, which the nodes must know.
func (w *world) planSipwakes() error {
	var urls []string
	for i := range instances {
		rpc, err := quietPort("127.0.0.1")
		if err != nil {
			return err
		}
		operations, err := quietPort("127.0.0.1")
		if err != nil {
			return err
		}
		s := &instance{id: i, rpc: fmt.Sprintf("http://127.0.0.1:%d/rpc", rpc), operations: fmt.Sprintf("127.0.0.1:%d", operations),
			config: filepath.Join(w.dir, fmt.Sprintf("sipwake%d.yml", i)), spool: filepath.Join(w.dir, fmt.Sprintf("spool%d", i))}
		name := "sipwake" + strconv.Itoa(i)
		s.server = &server{name: name, times: w.times, grace: time.Second, start: func(ctx context.Context) (*stack.Process, error) {
			c := stack.SipwakeConfig{Program: w.config.Sipwake, Config: s.config, Operations: s.operations, Name: name, Dir: filepath.Join(w.dir, name)}
			if i == clocked && w.clock != nil {
				c.Program, c.Env = w.clockedProgram(), w.clock.Env()
			}
			p, err := stack.StartSipwake(ctx, c)
			if err != nil {
				return nil, err
			}
			return p.Process, nil
		}}
		w.sipwakes = append(w.sipwakes, s)
		w.servers = append(w.servers, s.server)
		urls = append(urls, s.rpc)
	}
	w.calls = newCaller(urls)
	return nil
}

func (w *world) startSipwakes(ctx context.Context) error {
	write := func(name string, text []byte) string {
		path := filepath.Join(w.dir, name)
		_ = os.WriteFile(path, text, 0o600) // sipwake says that it is missing
		return path
	}
	key, err := w.apns.MakeKey(w.dir, team, "CHAOSKEY12")
	if err != nil {
		return err
	}
	account, err := w.fcm.MakeAccount(w.dir, project)
	if err != nil {
		return err
	}
	var sentinels, nodes strings.Builder
	for _, h := range w.redis.hosts {
		fmt.Fprintf(&sentinels, "%q, ", h.watch)
	}
	secretFile := write("node.secret", []byte(secret))
	for _, n := range w.nodes {
		nodes.WriteString(n.forSipwake(secretFile, len(w.nodes) > kamailios))
	}
	const limits = "    timeout: 3s\n    call_timeout: 1s\n    breaker_pause: 2s\n"
	text := fmt.Sprintf(`  type: redis
  redis:
    addresses: [%s]
    master_name: %s
    wait_replicas: 1
nodes:
%sapns:
  - bundle_id: %s
    team_id: %s
    key_id: CHAOSKEY12
    key_file: %s
    endpoint: https://%s
    ca_file: %s
%sfcm:
  - credentials_file: %s
    endpoint: https://%s
    ca_file: %s
%s`, sentinels.String(), masterName, nodes.String(),
		bundle, team, key, w.relays[apns].address(), write("apns-ca.pem", w.apns.CA()), limits,
		account, w.relays[fcm].address(), write("fcm-ca.pem", w.fcm.CA()), limits)
	token := write("rpc.token", []byte(rpcToken))
	for _, s := range w.sipwakes {
		rpc := strings.TrimSuffix(strings.TrimPrefix(s.rpc, "http://"), "/rpc")
		write(filepath.Base(s.config), fmt.Appendf(nil, "rpc:\n  listen: %s\n  token_files: [%s]\noperations:\n  listen: %s\n"+
			"store:\n  fallback:\n    spool: %s\n%s", rpc, token, s.operations, s.spool, text))
		if w.net != nil {
			if err := w.newDisk(s.spool, spoolSize); err != nil {
				return err
			}
		}
		if err := s.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ready returns what does not work, or nothing.
func (w *world) ready(ctx context.Context) string {
	if !w.redis.whole(ctx) {
		return "Redis"
	}
	if n := w.nodesReady(ctx); n != "" {
		return n
	}
	for _, s := range w.sipwakes {
		if !httpOK(ctx, "http://"+s.operations+"/readyz") {
			return s.name
		}
	}
	return ""
}

func httpOK(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// poll calls done until it returns true or ctx ends.
func poll(ctx context.Context, what string, done func() bool) error {
	for !done() {
		if ctx.Err() != nil {
			return fmt.Errorf("cannot see %s: %w", what, ctx.Err())
		}
		sleep(ctx, 100*time.Millisecond)
	}
	return nil
}
