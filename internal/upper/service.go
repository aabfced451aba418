package upper

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/secret"
)

// Bindings is what the Service needs from the wake rules.
type Bindings interface {
	// Bound returns how many devices of the AOR are bound.
	Bound(ctx context.Context, aor string) (int, error)
	// Unbind removes the bindings of an AOR.
	Unbind(ctx context.Context, aor string) error
}

// Claims lets one of several instances do a task.
type Claims interface {
	// Claim returns true to the first caller with that key within ttl.
	Claim(ctx context.Context, key string, ttl time.Duration) (bool, error)
}

// Service keeps registrations alive. Safe for concurrent use.
type Service struct {
	store    Store
	bindings Bindings
	claims   Claims
	log      *slog.Logger
	metrics  metrics
	settings atomic.Pointer[settings]
	away     away
	returns  returns
}

// settings is what a reload replaces.
type settings struct {
	Config
	Files
	nodes map[string]Node
}

// off reports whether no registration is kept alive here.
func (c *settings) off() bool { return c.key == nil || c.Keep == KeepNo }

// New returns a Service that keeps nothing alive until Configure is called.
func New(s Store, b Bindings, c Claims, log *slog.Logger, reg prometheus.Registerer) *Service {
	u := &Service{store: s, bindings: b, claims: c, log: log, metrics: newMetrics(reg)}
	u.settings.Store(&settings{})
	return u
}

// Configure replaces the settings, the content of their files, and the nodes.
func (s *Service) Configure(cfg Config, files Files, nodes map[string]Node) {
	s.settings.Store(&settings{cfg, files, nodes})
}

// Registered is a phone's REGISTER that the PBX accepted.
type Registered struct {
	Registration             // AOR, Node, Server, Set, URI, To, User, Realm and Granted
	HA1          secret.Text // from the app's X-PIID; may be empty
}

// ErrOff means that no registration is kept alive here.
var ErrOff = errors.New("upper.key_file is not set, or upper.keep is no")

// maxField bounds each text of a registration.
const maxField = 512

func fits(text string) bool {
	return text != "" && len(text) <= maxField && !strings.ContainsAny(text, "\r\n\"")
}

var isHA1 = regexp.MustCompile(`^[0-9a-fA-F]{32}$`)

// Register records what the PBX granted a phone. Without a usable HA1 nothing is
// kept: the phone is woken to refresh by itself (wake.refresh). A Granted of 0 ends
// the registration.
func (s *Service) Register(ctx context.Context, r Registered) error {
	cfg := s.settings.Load()
	if cfg.off() {
		return nil
	}
	if r.Granted == 0 {
		return s.store.RemoveUpper(ctx, r.AOR)
	}
	for _, text := range []string{r.AOR, r.Server, r.URI, r.To, r.User, r.Realm} {
		if !fits(text) {
			return nil
		}
	}
	if r.Contact != "" && !fits(r.Contact) {
		return nil
	}
	ha1 := r.HA1
	if !isHA1.MatchString(ha1.Reveal()) {
		ha1 = cfg.secrets[r.AOR]
	}
	if ha1.Empty() {
		return nil
	}
	u := r.Registration
	u.Secret = cfg.key.seal(u.AOR, secret.NewText(strings.ToLower(ha1.Reveal())))
	u.State, u.Why, u.Tries, u.Stamp = StateOK, "", 0, 0
	u.LastOK = time.Now()
	u.Due = u.LastOK.Add(cfg.next(&u))
	if cfg.Keep == KeepAlways { // the phone's REGISTERs postpone nothing
		old, ok, err := s.store.Upper(ctx, u.AOR)
		if err != nil {
			return err
		}
		if ok && old.State == StateOK && old.Due.Before(u.Due) {
			u.Due = old.Due
		}
	}
	return s.store.PutUpper(ctx, u)
}

// next returns how long until a registration granted now is refreshed: the margin
// before its end, spread over a tenth of its time.
func (c *settings) next(u *Registration) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(u.AOR))
	spread := u.Granted / 10 * time.Duration(h.Sum32()%1000) / 1000
	return max(u.Granted-c.Margin-spread, u.Granted/2)
}

const (
	longest  = 10 * time.Minute // between two attempts
	refused  = time.Hour        // between attempts with a password that the PBX rejects
	deadline = 10 * time.Second // for all requests of one refresh
)

// Run refreshes what is due until ctx ends, checking at the given interval.
func (s *Service) Run(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	var counted time.Time
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		cfg := s.settings.Load()
		if cfg.off() {
			continue
		}
		s.makeDue(ctx, max(1, int(float64(cfg.Rate)*every.Seconds())/2))
		limit := max(1, int(float64(cfg.Rate)*every.Seconds()))
		list, err := s.store.DueUppers(ctx, time.Now(), cfg.Retry, limit)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("cannot read registrations that are due", "err", err)
		}
		s.each(list, func(u *Registration) { s.refresh(ctx, cfg, u) })
		if time.Since(counted) > countEvery {
			counted = time.Now()
			s.count(ctx)
		}
	}
}

// atOnce is how many registrations are processed concurrently, so that an
// unresponsive node delays no other.
const atOnce = 32

func (s *Service) each(list []Registration, do func(u *Registration)) {
	var all sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range list {
		slots <- struct{}{}
		all.Go(func() {
			do(&list[i])
			<-slots
		})
	}
	all.Wait()
}

// countEvery is how often registrations are counted, a page of countPage at a time.
const (
	countEvery = 5 * time.Minute
	countPage  = 500
)

func (s *Service) count(ctx context.Context) {
	n := map[State]int{StateOK: 0, StateRetrying: 0, StateFailed: 0}
	for cursor := ""; ; {
		list, next, err := s.store.Uppers(ctx, cursor, countPage)
		if err != nil {
			return
		}
		for i := range list {
			n[list[i].State]++
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	for state, n := range n {
		s.metrics.registrations.WithLabelValues(string(state)).Set(float64(n))
	}
}

// refresh registers the user again. If no device is bound any more, it ends the
// registration.
func (s *Service) refresh(ctx context.Context, cfg *settings, u *Registration) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	n, err := s.bindings.Bound(ctx, u.AOR)
	if err != nil {
		s.log.Warn("cannot refresh registration", "aor", u.AOR, "err", err)
		return
	}
	k := newAttempt()
	k.ends = n == 0
	if err = s.send(ctx, cfg, u, k, ""); err != nil {
		u.Silent = 0
		err = s.failed(ctx, u, StateRetrying, err.Error())
	}
	if err != nil {
		s.log.Warn("cannot refresh registration", "aor", u.AOR, "err", err)
	}
}

// Result handles the PBX's response to a request. Any instance can do this.
func (s *Service) Result(ctx context.Context, r Result) error {
	cfg := s.settings.Load()
	k, ok := parseAttempt(r.Key)
	if !ok || cfg.off() || cfg.nodes[r.Node] == nil {
		return nil
	}
	u, ok, err := s.store.Upper(ctx, r.AOR)
	if err != nil || !ok {
		return err
	}
	// Send what follows through the same node to the same server: a nonce may be valid
	// for one address only.
	u.Node = r.Node
	silent := u.Silent + 1
	u.Silent = 0
	if fits(r.Server) {
		u.Server = r.Server
	}
	switch {
	case r.Code >= 200 && r.Code < 300:
		return s.granted(ctx, cfg, &u, r, k)
	case k.overtaken(&u): // by the phone, perhaps with another password
		return nil
	case r.Code == 401:
		return s.challenged(ctx, cfg, &u, r, k)
	case r.Code == 403 || r.Code == 404:
		return s.failed(ctx, &u, StateFailed, fmt.Sprintf("the PBX said %d", r.Code))
	}
	state := StateRetrying
	if r.Code == 408 { // any other code is a response
		u.Silent = silent
		if cfg.Failure == FailureTimeout && silent >= silentTries && time.Since(u.LastOK) > u.Granted {
			state = StateFailed
		}
	}
	return s.failed(ctx, &u, state, fmt.Sprintf("the PBX said %d", r.Code))
}

// silentTries is how many consecutive refreshes must go unanswered before
// FailureTimeout counts it as a failure: a single one may be the first after we were
// down for long. An unreachable gateway of ours does not count as silence of the
// PBX.
const silentTries = 3

func (s *Service) granted(ctx context.Context, cfg *settings, u *Registration, r Result, k attempt) error {
	if k.ends && k.overtaken(u) { // which one reached the PBX last?
		u.Due = time.Now()
		return s.put(ctx, u)
	}
	if k.ends {
		s.metrics.count("ended")
		return s.store.RemoveUpper(ctx, u.AOR)
	}
	s.metrics.count("ok")
	if r.Granted > 0 {
		u.Granted = time.Duration(r.Granted) * time.Second
	}
	u.State, u.Why, u.Tries, u.LastOK = StateOK, "", 0, time.Now()
	u.Due = u.LastOK.Add(cfg.next(u))
	return s.put(ctx, u)
}

// challenged answers the first challenge, and a second one if the nonce was stale.
func (s *Service) challenged(ctx context.Context, cfg *settings, u *Registration, r Result, k attempt) error {
	ha1, err := cfg.key.open(u.AOR, u.Secret)
	if err != nil {
		return s.failed(ctx, u, StateFailed, err.Error())
	}
	authorization, stale, err := answer(r.Headers, u.User, u.Realm, ha1.Reveal(), u.URI)
	if err != nil {
		return s.failed(ctx, u, StateFailed, err.Error())
	}
	if k.try > 2 || k.try == 2 && !stale {
		return s.failed(ctx, u, StateFailed, "the PBX refuses the password")
	}
	k.try++
	k.cseq++
	if err := s.send(ctx, cfg, u, k, authorization); err != nil {
		return s.failed(ctx, u, StateRetrying, err.Error())
	}
	return nil
}

// failed records a failed refresh, and when to retry.
func (s *Service) failed(ctx context.Context, u *Registration, state State, why string) error {
	s.metrics.count(string(state))
	s.log.Warn("registration is not refreshed", "aor", u.AOR, "server", u.Server, "state", string(state), "why", why)
	cfg := s.settings.Load()
	if state == StateFailed && cfg.Failure != FailureKeep {
		return errors.Join(s.bindings.Unbind(ctx, u.AOR), s.store.RemoveUpper(ctx, u.AOR))
	}
	u.State, u.Why = state, why
	wait := refused
	if state == StateRetrying {
		wait = min(cfg.Retry<<min(u.Tries, 10), longest)
	}
	u.Tries++
	u.Due = time.Now().Add(wait)
	return s.put(ctx, u)
}

// put stores u, unless a REGISTER of the phone has come meanwhile.
func (s *Service) put(ctx context.Context, u *Registration) error {
	err := s.store.PutUpper(ctx, *u)
	if errors.Is(err, ErrChanged) {
		return nil
	}
	return err
}

// List returns up to limit registrations and the next cursor.
func (s *Service) List(ctx context.Context, cursor string, limit int) ([]Registration, string, error) {
	return s.store.Uppers(ctx, cursor, limit)
}

// Find returns the registration of an AOR.
func (s *Service) Find(ctx context.Context, aor string) (Registration, bool, error) {
	return s.store.Upper(ctx, aor)
}

// Refresh refreshes the registration of an AOR now. It returns false if there is
// none.
func (s *Service) Refresh(ctx context.Context, aor string) (bool, error) {
	cfg := s.settings.Load()
	if cfg.off() {
		return false, ErrOff
	}
	u, ok, err := s.store.Upper(ctx, aor)
	if err != nil || !ok {
		return false, err
	}
	return true, asAway(s.send(ctx, cfg, &u, newAttempt(), ""))
}

// Remove removes the user's bindings and ends the registration at the PBX. It
// returns false if there is none.
func (s *Service) Remove(ctx context.Context, aor string) (bool, error) {
	cfg := s.settings.Load()
	u, ok, err := s.store.Upper(ctx, aor)
	if err != nil || !ok {
		return false, err
	}
	if err := s.bindings.Unbind(ctx, aor); err != nil {
		return true, err
	}
	if cfg.off() {
		return true, s.store.RemoveUpper(ctx, aor)
	}
	k := newAttempt()
	k.ends = true
	return true, asAway(s.send(ctx, cfg, &u, k, ""))
}

// asAway returns the error for an operator's request that no gateway took.
func asAway(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrAway, err)
}
