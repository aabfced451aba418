package webpush

import (
	"crypto/ecdsa"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

// Config is one Web Push app with its own VAPID key.
type Config struct {
	// Packages are the names by which phones call the app, in pn-param or as the
	// package of X-MPUSH. RFC 8599 defines no name for such subscriptions, but a
	// client may give one. If empty, the app serves phones that name no app, or one
	// that no other app has.
	Packages []string `yaml:"packages"`
	// VAPIDKeyFile holds the P-256 private key in PEM, as made by "openssl genpkey
	// -algorithm EC -pkeyopt ec_paramgen_curve:P-256". Subscriptions are bound to
	// the key: a new key invalidates all of them.
	VAPIDKeyFile string `yaml:"vapid_key_file"`
	// Subject is a mailto: or https: URL at which push services can reach the
	// operator. Apple requires a valid one.
	Subject string `yaml:"subject"`
	// Hosts are the push services that may be called: "name", or "*.domain" for
	// every host below, either with an optional port other than 443. Default: those
	// of Google, Mozilla, Apple and Microsoft.
	Hosts []string `yaml:"hosts"`
	// PublicHosts allows subscriptions at hosts that are not in Hosts.
	PublicHosts PublicHosts `yaml:"public_hosts"`
	// CAFile holds PEM certificates that are trusted in addition to the system's.
	CAFile string `yaml:"ca_file"`
	// AllowPrivate also lets Hosts resolve to addresses that are not public, and be
	// IP addresses. It is for labs only: clients can then make sipwake call any URL
	// at these hosts. Hosts must be set.
	AllowPrivate bool `yaml:"allow_private"`
	// OriginInFlight limits the requests in flight at one push service. Further
	// pushes to it wait, and each of them counts towards InFlight. Default a quarter
	// of InFlight.
	OriginInFlight int `yaml:"origin_in_flight"`

	// Limits apply to all push services together. InFlight is 1024 by default, so
	// that a slow service leaves room for the others.
	push.Limits  `yaml:",inline"`
	push.Options `yaml:",inline"`
	// Policy says when the app's devices are pushed.
	Policy push.Policy `yaml:"policy"`
}

// SetDefaults sets the zero fields.
func (c *Config) SetDefaults() {
	if len(c.Hosts) == 0 && !c.AllowPrivate {
		c.Hosts = []string{
			"fcm.googleapis.com",
			"updates.push.services.mozilla.com",
			"*.push.apple.com",
			"*.notify.windows.com",
		}
	}
	if c.InFlight == 0 {
		c.InFlight = 1024
	}
	c.Limits.SetDefaults()
	c.Policy.SetDefaults(pnparam.WebPush)
	c.PublicHosts.setDefaults()
	if c.OriginInFlight == 0 {
		c.OriginInFlight = max(1, c.InFlight/4)
	}
}

// Validate reports every problem that can be found without reading files. Call
// SetDefaults first.
func (c *Config) Validate(report func(field, problem string)) {
	if c.VAPIDKeyFile == "" {
		report("vapid_key_file", "must be set")
	}
	if !subject(c.Subject) {
		report("subject", fmt.Sprintf("must be a mailto: or https: URL, such as mailto:admin@example.com, is %q", c.Subject))
	}
	if c.AllowPrivate && len(c.Hosts) == 0 {
		report("allow_private", "needs hosts to be set: it is for labs only")
	}
	for i, name := range c.Packages {
		if name == "" || slices.Contains(c.Packages[:i], name) {
			report(fmt.Sprintf("packages[%d]", i), fmt.Sprintf("%q is empty, or is there twice", name))
		}
	}
	for i, h := range c.Hosts {
		field := fmt.Sprintf("hosts[%d]", i)
		r, problem := parseHostRule(h)
		switch {
		case problem != "":
			report(field, problem)
		case r.literal && !c.AllowPrivate:
			report(field, "must be a host name: an IP address is for labs only, with allow_private")
		case slices.Contains(c.Hosts[:i], h):
			report(field, fmt.Sprintf("%q is there twice", h))
		}
	}
	if c.OriginInFlight < 1 || c.OriginInFlight > c.InFlight {
		report("origin_in_flight", fmt.Sprintf("must be between 1 and in_flight, which is %d, is %d", c.InFlight, c.OriginInFlight))
	}
	c.PublicHosts.validate(func(field, problem string) { report("public_hosts."+field, problem) })
	c.Limits.Validate(report)
	c.Options.Validate(pnparam.WebPush, report)
	c.Policy.Validate(func(field, problem string) { report("policy."+field, problem) })
}

func subject(s string) bool {
	u, err := url.Parse(s)
	if err != nil || s == "" || !push.Visible(s) {
		return false
	}
	switch u.Scheme {
	case "mailto":
		user, host, ok := strings.Cut(u.Opaque, "@")
		return ok && user != "" && host != "" && !strings.ContainsAny(s, "<>")
	case "https":
		return u.Hostname() != ""
	}
	return false
}

// Apps reads the key and returns the app. It does not connect. An error begins with
// the yaml name of the wrong field. Call SetDefaults and Validate first.
func (c *Config) Apps(log *slog.Logger) ([]push.App, error) {
	client, fingerprint, err := c.client(nil, log)
	if err != nil {
		return nil, err
	}
	templates, err := c.Load(pnparam.WebPush, push.TemplateRules{Edit: declare})
	if err != nil {
		return nil, err
	}
	return []push.App{{
		Provider:    pnparam.WebPush,
		Packages:    c.Packages,
		Any:         len(c.Packages) == 0,
		VAPID:       client.vapid.public,
		Default:     true,
		Client:      client,
		Limits:      c.Limits,
		Templates:   templates,
		Policy:      c.Policy,
		Fingerprint: fingerprint,
		Doubts:      c.doubts(),
	}}, nil
}

// doubts returns what push services are known to refuse: Apple answers BadJwtToken if
// the subject's host is known only in the local network.
func (c *Config) doubts() []string {
	u, err := url.Parse(c.Subject)
	if err != nil {
		return nil
	}
	host := u.Hostname()
	if u.Scheme == "mailto" {
		_, host, _ = strings.Cut(u.Opaque, "@")
		host, _, _ = strings.Cut(host, "?")
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	// The last label: RFC 2606, RFC 6762, RFC 9476, and others in similar use.
	last := host[strings.LastIndexByte(host, '.')+1:]
	private := []string{"localhost", "local", "localdomain", "invalid", "test", "example", "alt", "internal", "lan", "home", "corp"}
	if last != host && !slices.Contains(private, last) && net.ParseIP(host) == nil {
		return nil
	}
	return []string{fmt.Sprintf("subject has the host %q, which nobody else can reach: Apple refuses all pushes with it", host)}
}

// client creates the Provider. A nil resolver means the system's.
func (c *Config) client(resolver *net.Resolver, log *slog.Logger) (p *Provider, fingerprint string, err error) {
	key, contents, err := c.key()
	if err != nil {
		return nil, "", err
	}
	tlsConfig, ca, err := push.TLSConfig(c.CAFile)
	if err != nil {
		return nil, "", err
	}
	v, err := newVAPID(key, c.Subject)
	if err != nil {
		return nil, "", fmt.Errorf("vapid_key_file: %w", err)
	}
	p = &Provider{vapid: v, answers: push.NewAnswers(Answers()), guests: newGuests(c.PublicHosts, c.InFlight)}
	listed, strange := control(onlyPublic), control(p.guests.control)
	if c.AllowPrivate {
		listed, strange = nil, nil
	}
	p.origins = newOrigins(c.OriginInFlight, func() *http.Transport { return newTransport(tlsConfig, listed, resolver, maxConns) }, log)
	p.strange = newOrigins(c.PublicHosts.InFlight, func() *http.Transport {
		return newTransport(tlsConfig, strange, resolver, maxGuestConns)
	}, log)
	for i, h := range c.Hosts {
		r, problem := parseHostRule(h)
		if problem != "" {
			return nil, "", fmt.Errorf("hosts[%d]: %s", i, problem)
		}
		p.rules = append(p.rules, r)
	}
	what := fmt.Sprintf("%q %q %v %d %+v %+v", c.Subject, c.Hosts, c.AllowPrivate, c.OriginInFlight, c.PublicHosts, c.Limits)
	return p, push.Fingerprint(what, string(contents), string(ca)), nil
}

// PublicKey reads the key file and returns the public key. Web apps subscribe with it
// (applicationServerKey), and proxies announce it as +sip.vapid (RFC 8599). An error
// begins with the yaml name of the field.
func (c *Config) PublicKey() (string, error) {
	key, _, err := c.key()
	if err != nil {
		return "", err
	}
	return publicKey(key)
}

func (c *Config) key() (*ecdsa.PrivateKey, []byte, error) {
	contents, err := push.ReadField("vapid_key_file", c.VAPIDKeyFile)
	if err != nil {
		return nil, nil, err
	}
	key, err := parseKey(contents)
	if err != nil {
		return nil, nil, fmt.Errorf("vapid_key_file: %s %w", c.VAPIDKeyFile, err)
	}
	return key, contents, nil
}
