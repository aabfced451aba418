package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/stack"
	"github.com/sipwake/sipwake/internal/wake"
)

const (
	bundle = "org.example.phone"
	team   = "TEAM123456"
	keyID  = "BENCHKEY12"
	node   = "edge1"
)

// stage has the servers for the measurements.
type stage struct {
	program  string
	dir      string
	apns     *apnssim.Server
	ca, key  string // files of the simulator
	apnsYAML string // the app, for the configuration
	signals  *httptest.Server
	redis    *stack.Redis
	children stack.Group
}

func newStage(ctx context.Context, program string) (*stage, error) {
	s := &stage{program: program}
	var err error
	if s.dir, err = os.MkdirTemp("", "sipwake-bench-"); err != nil {
		return nil, err
	}
	if err := s.open(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stage) open(ctx context.Context) (err error) {
	if err := s.openAPNs(); err != nil {
		return err
	}
	s.apnsYAML = fmt.Sprintf("  - {bundle_id: %s, team_id: %s, key_id: %s, key_file: %s, endpoint: %q, ca_file: %s, queue: 100000}\n",
		bundle, team, keyID, s.key, s.apns.URL(), s.ca)
	s.signals = httptest.NewServer(http.HandlerFunc(signalled))
	if s.redis, err = stack.StartRedis(ctx, stack.RedisConfig{Dir: s.dir}); err != nil {
		return err
	}
	s.children.Add(s.redis)
	return nil
}

// openAPNs starts the simulator, which passes for Apple's own host too.
func (s *stage) openAPNs() (err error) {
	if s.apns, err = apnssim.Start(apnssim.Options{MaxStreams: 1000, Names: []string{appleHost}}); err != nil {
		return err
	}
	if s.key, err = s.apns.MakeKey(s.dir, team, keyID); err != nil {
		return err
	}
	s.ca, err = s.apns.WriteCA(s.dir)
	return err
}

// signalled answers a signal as a node does that is too late for a call, and that tells
// its phones of those that are over. What a node does not take would be repeated.
func signalled(w http.ResponseWriter, r *http.Request) {
	var request struct{ Method string }
	status := wake.SignalGone
	if json.NewDecoder(r.Body).Decode(&request) == nil && request.Method == "over" {
		status = wake.SignalTold
	}
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":{"status":%q}}`, status)
}

func (s *stage) close() {
	s.children.Stop()
	if s.apns != nil {
		s.apns.Close()
	}
	if s.signals != nil {
		s.signals.Close()
	}
	_ = os.RemoveAll(s.dir)
}

// server is a running sipwake.
type server struct {
	*target
	*stack.Sipwake
	name       string
	operations string
	pid        int
}

// serverConfig has what differs between servers.
type serverConfig struct {
	name    string
	file    string // of its configuration and its log; default: name
	program string // default: the stage's
	store   string
	wake    string // default: without limits and delays
}

// sipwake starts one.
func (s *stage) sipwake(ctx context.Context, c serverConfig) (*server, error) {
	rpc, err := stack.FreePort("127.0.0.1")
	ops := rpc
	for err == nil && ops == rpc { // it is free until sipwake listens there
		ops, err = stack.FreePort("127.0.0.1")
	}
	if err != nil {
		return nil, err
	}
	if c.wake == "" {
		c.wake = "wake: {recent: 10ms, limits: {pair: 0, caller: 0, aor: 0}}\n"
	}
	if c.file == "" {
		c.file = c.name
	}
	if c.program == "" {
		c.program = s.program
	}
	file := filepath.Join(s.dir, c.file+".yml")
	text := fmt.Sprintf("rpc: {listen: \"127.0.0.1:%d\", deadline: 10s}\noperations: {listen: \"127.0.0.1:%d\"}\nlog: {level: error}\n"+
		"%sstore:\n%s\nnodes:\n  - {id: %s, url: %q, secret: bench}\napns:\n%s",
		rpc, ops, c.wake, c.store, node, s.signals.URL, s.apnsYAML)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	child, err := stack.StartSipwake(ctx, stack.SipwakeConfig{Program: c.program, Config: file, Name: c.file,
		Operations: fmt.Sprintf("127.0.0.1:%d", ops), Dir: s.dir})
	if err != nil {
		return nil, err
	}
	s.children.Add(child)
	return &server{newTarget(fmt.Sprintf("http://127.0.0.1:%d/rpc", rpc)), child, c.name, fmt.Sprintf("127.0.0.1:%d", ops), child.PID()}, nil
}

func (s *stage) localStore(file string) string {
	return fmt.Sprintf("  type: local\n  local: {path: %s}", filepath.Join(s.dir, file))
}

// redisStore returns the store section for one of Redis' databases, so that a scan of one
// does not see the keys of another.
func (s *stage) redisStore(db int) string {
	return fmt.Sprintf("  type: redis\n  redis: {addresses: [%q], db: %d}\n  fallback: {spool: %s}", s.redis.Address(), db,
		filepath.Join(s.dir, fmt.Sprintf("spool-%d", db)))
}

// gauge reads a metric from a sipwake's operations listener.
func gauge(operations, name string) (float64, error) {
	res, err := http.Get("http://" + operations + "/metrics")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, errors.Join(fmt.Errorf("no %s in /metrics", name), lines.Err())
}
