package webpush

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sipwake/sipwake/push"
)

// maxEndpoint is the maximum length of a push URI in bytes; real ones have 150 to
// 600.
const maxEndpoint = 4096

const httpsPort = "443"

// hostRule allows the hosts of one entry in Config.Hosts.
type hostRule struct {
	name    string // the host, or with below the suffix of its name, starting with a dot
	port    string
	below   bool
	literal bool // name is an IP address
}

// parseHostRule parses "name", "*.name" or an IP address, with or without a port.
func parseHostRule(s string) (r hostRule, problem string) {
	host, port := s, httpsPort
	if h, p, err := net.SplitHostPort(s); err == nil {
		host, port = h, p
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return r, "has a port that is not between 1 and 65535"
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return hostRule{name: addr.String(), port: port, literal: true}, ""
	}
	name, below := strings.CutPrefix(host, "*")
	switch {
	case !hostName(strings.TrimPrefix(name, ".")), below != strings.HasPrefix(name, "."):
		return r, `must be a host name in small letters, "*." and a domain, or either with a port`
	case below && strings.Count(name, ".") < 2:
		return r, "must not allow a whole top-level domain"
	}
	return hostRule{name: name, port: port, below: below}, ""
}

// hostName reports whether s is a lower-case domain name that cannot be taken for an
// IP address: many programs read "127.1", "2130706433" and "0x7f.1" as addresses.
func hostName(s string) bool {
	if len(s) > 253 {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
		last = label
	}
	return last[0] < '0' || last[0] > '9'
}

// endpoint is a push URI that may be called, judging by its name. The address behind
// the name is checked when the connection is made.
type endpoint struct {
	url    string
	origin string // RFC 6454 section 6.1, as VAPID requires
	guest  string // the domain of a host that no rule allows by name; otherwise empty
}

// allow parses the push URI of a subscription, and reports whether the rules or the
// guests allow it. g may be nil.
func allow(rules []hostRule, g *guests, uri string) (endpoint, bool) {
	if uri == "" || len(uri) > maxEndpoint || !push.Visible(uri) {
		return endpoint{}, false
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Opaque != "" || u.Fragment != "" {
		return endpoint{}, false
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" {
		port = httpsPort
	}
	guest := ""
	if !slices.ContainsFunc(rules, func(r hostRule) bool { return r.allows(host, port) }) {
		var ok bool
		if guest, ok = g.takes(host, port); !ok {
			return endpoint{}, false
		}
	}
	u.Host = host
	if strings.Contains(host, ":") {
		u.Host = "[" + host + "]"
	}
	if port != httpsPort {
		u.Host = net.JoinHostPort(host, port)
	}
	return endpoint{url: u.String(), origin: "https://" + u.Host, guest: guest}, true
}

func (r hostRule) allows(host, port string) bool {
	switch {
	case r.port != port:
		return false
	case r.below:
		return strings.HasSuffix(host, r.name) && hostName(host)
	}
	return host == r.name
}

// errNotPublic explains why no connection was tried.
var errNotPublic = errors.New("the address is not a public one")

// onlyPublic is a net.Dialer's ControlContext. It sees every address after name
// resolution, just before connecting. So no name, and no name server that changes its
// answers between queries, can lead to an internal address.
func onlyPublic(_ context.Context, _, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil || !public(a.Addr()) {
		return errNotPublic
	}
	return nil
}

// public reports whether the address belongs to a host on the Internet, by the IANA
// registries of special-purpose addresses (RFC 6890).
func public(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	a = innermost(a)
	if a.Is4() {
		return !within(a, notPublic4())
	}
	return netip.MustParsePrefix("2000::/3").Contains(a) && !within(a, notPublic6())
}

// innermost returns the IPv4 address that an IPv6 address embeds, if any: an
// IPv4-mapped address, or one of NAT64 (RFC 6052), whose prefix reaches every IPv4
// host.
func innermost(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if nat64 := netip.MustParsePrefix("64:ff9b::/96"); nat64.Contains(a) {
		b := a.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return a
}

func within(a netip.Addr, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return netip.MustParsePrefix(p).Contains(a) })
}

func notPublic4() []string {
	return []string{
		"0.0.0.0/8",       // this network
		"10.0.0.0/8",      // private
		"100.64.0.0/10",   // shared, behind a carrier's NAT
		"127.0.0.0/8",     // loopback
		"169.254.0.0/16",  // link-local, where clouds keep credentials
		"172.16.0.0/12",   // private
		"192.0.0.0/24",    // protocol assignments
		"192.0.2.0/24",    // documentation
		"192.88.99.0/24",  // 6to4 relays
		"192.168.0.0/16",  // private
		"198.18.0.0/15",   // benchmarks
		"198.51.100.0/24", // documentation
		"203.0.113.0/24",  // documentation
		"224.0.0.0/4",     // multicast
		"240.0.0.0/4",     // reserved, broadcast
	}
}

// notPublic6 lists what is not public within 2000::/3.
func notPublic6() []string {
	return []string{
		"2001::/23",     // protocol assignments, Teredo among them
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4: any IPv4 address
		"3fff::/20",     // documentation
	}
}
