package webpush

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/publicsuffix"
)

// PublicHosts allows subscriptions at unlisted push services: those that users run
// themselves, such as the ntfy servers of UnifiedPush. It is off without Ports.
type PublicHosts struct {
	// Ports are the ports that may be called: 443 for all but unusual push services.
	Ports []int `yaml:"ports"`
	// InFlight limits the requests in flight at one domain. Default 8. All such
	// hosts together get a quarter of the app's.
	InFlight int `yaml:"in_flight"`
	// Rate limits the pushes to one domain per minute. Default 120.
	Rate int `yaml:"rate"`
	// Never lists networks that are not called even though their addresses are
	// public, such as the operator's own.
	Never []string `yaml:"never"`
}

func (p *PublicHosts) setDefaults() {
	if p.InFlight == 0 {
		p.InFlight = 8
	}
	if p.Rate == 0 {
		p.Rate = 120
	}
}

func (p *PublicHosts) validate(report func(field, problem string)) {
	for i, port := range p.Ports {
		if port < 1 || port > 65535 || slices.Contains(p.Ports[:i], port) {
			report(fmt.Sprintf("ports[%d]", i), "must be between 1 and 65535, and there once")
		}
	}
	if p.InFlight < 1 || p.InFlight > 1000 {
		report("in_flight", fmt.Sprintf("must be between 1 and 1000, is %d", p.InFlight))
	}
	if p.Rate < 1 || p.Rate > 100_000 {
		report("rate", fmt.Sprintf("must be between 1 and 100000, is %d", p.Rate))
	}
	for i, s := range p.Never {
		if _, err := netip.ParsePrefix(s); err != nil {
			report(fmt.Sprintf("never[%d]", i), "must be a network, such as 198.51.100.0/24")
		}
	}
}

// domainOf returns the domain that a host belongs to: the registered domain, since
// there can be any number of names below it. It is empty for a host that cannot be on
// the Internet: a name without a dot, an address, or a private top-level domain.
func domainOf(host string) string {
	if !hostName(host) {
		return ""
	}
	domain, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return ""
	}
	// A top-level domain that is not in the list does not exist.
	suffix, icann := publicsuffix.PublicSuffix(host)
	if !icann && !strings.Contains(suffix, ".") {
		return ""
	}
	return domain
}

// guests are the unlisted push services. They share a part of the app's requests in
// flight, of which each domain has a share. Safe for concurrent use.
type guests struct {
	ports       []string
	most, share int
	every       time.Duration // interval at which a domain gains one more push
	burst       int
	never       []netip.Prefix

	mu       sync.Mutex
	inFlight map[string]int       // by domain
	full     map[string]time.Time // when a domain has its full burst again
	total    int
}

// maxDomains limits the domains whose rate is remembered. When it is reached, pushes
// to other domains are refused.
const maxDomains = 4096

// newGuests returns nil if PublicHosts is off. p must be valid.
func newGuests(p PublicHosts, inFlight int) *guests {
	if len(p.Ports) == 0 {
		return nil
	}
	g := &guests{most: max(1, inFlight/4), share: p.InFlight, every: time.Minute / time.Duration(p.Rate), burst: p.Rate,
		inFlight: make(map[string]int), full: make(map[string]time.Time)}
	for _, port := range p.Ports {
		g.ports = append(g.ports, strconv.Itoa(port))
	}
	for _, s := range p.Never {
		if prefix, err := netip.ParsePrefix(s); err == nil {
			g.never = append(g.never, prefix.Masked())
		}
	}
	return g
}

// takes reports whether an unlisted host may be called, and returns its domain.
func (g *guests) takes(host, port string) (domain string, ok bool) {
	if g == nil || !slices.Contains(g.ports, port) {
		return "", false
	}
	domain = domainOf(host)
	return domain, domain != ""
}

// enter counts a request to the domain until leave, if one more is allowed.
func (g *guests) enter(domain string, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total >= g.most || g.inFlight[domain] >= g.share || !g.inRate(domain, now) {
		return false
	}
	g.total++
	g.inFlight[domain]++
	return true
}

// inRate takes one push from the domain's rate, if available. The caller holds the
// lock.
func (g *guests) inRate(domain string, now time.Time) bool {
	full, known := g.full[domain]
	if !known && len(g.full) >= maxDomains {
		maps.DeleteFunc(g.full, func(_ string, at time.Time) bool { return !at.After(now) })
		if len(g.full) >= maxDomains {
			return false
		}
	}
	if full.Before(now) {
		full = now
	}
	if full.Sub(now) > g.every*time.Duration(g.burst-1) {
		return false
	}
	g.full[domain] = full.Add(g.every)
	return true
}

func (g *guests) leave(domain string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	if g.inFlight[domain]--; g.inFlight[domain] == 0 {
		delete(g.inFlight, domain)
	}
}

// control is a net.Dialer's ControlContext: see onlyPublic. It also refuses the
// networks in Never and this machine's own addresses, some of which are public.
func (g *guests) control(ctx context.Context, network, address string, c syscall.RawConn) error {
	if err := onlyPublic(ctx, network, address, c); err != nil {
		return err
	}
	a, err := netip.ParseAddrPort(address)
	if err != nil || g.refuses(innermost(a.Addr())) {
		return errNotPublic
	}
	return nil
}

func (g *guests) refuses(a netip.Addr) bool {
	if slices.ContainsFunc(g.never, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return true
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	return slices.ContainsFunc(own, func(o net.Addr) bool {
		n, ok := o.(*net.IPNet)
		if !ok {
			return false
		}
		addr, ok := netip.AddrFromSlice(n.IP)
		return ok && addr.Unmap() == a
	})
}
