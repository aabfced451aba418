// Package config reads sipwake's one configuration file. The parts own their
// settings, defaults and rules; here they are put together, with what concerns
// more than one of them.
package config

import (
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"slices"

	"github.com/sipwake/sipwake/internal/node"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/store/fallback"
	"github.com/sipwake/sipwake/internal/store/local"
	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/trace/homer"
	"github.com/sipwake/sipwake/internal/trace/otlp"
	"github.com/sipwake/sipwake/internal/upper"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/kamailio"
	"github.com/sipwake/sipwake/opensips"
	"github.com/sipwake/sipwake/push/acrobits"
	"github.com/sipwake/sipwake/push/apns"
	"github.com/sipwake/sipwake/push/fcm"
	"github.com/sipwake/sipwake/push/hms"
	"github.com/sipwake/sipwake/push/relay"
	"github.com/sipwake/sipwake/push/webhook"
	"github.com/sipwake/sipwake/push/webpush"
	"github.com/sipwake/sipwake/rpc"
)

// Config is the whole configuration.
type Config struct {
	RPC        rpc.Config       `yaml:"rpc"`
	Operations Operations       `yaml:"operations"`
	Load       LoadListener     `yaml:"load"`
	Log        Log              `yaml:"log"`
	Store      Store            `yaml:"store"`
	Wake       wake.Config      `yaml:"wake"`
	Traces     trace.Config     `yaml:"traces"`
	Upper      upper.Config     `yaml:"upper"`
	Homer      homer.Config     `yaml:"homer"`
	OTLP       otlp.Config      `yaml:"otlp"`
	Nodes      []Node           `yaml:"nodes"`
	APNs       []apns.Config    `yaml:"apns"`
	FCM        []fcm.Config     `yaml:"fcm"`
	WebPush    WebPushApps      `yaml:"webpush"`
	HMS        []hms.Config     `yaml:"hms"`
	Webhooks   []webhook.Config `yaml:"webhooks"`
	Acrobits   acrobits.Config  `yaml:"acrobits"`
	// Relays are sipwakes of apps' makers, which push for this one.
	Relays []relay.Config `yaml:"relays"`
	// CredentialsDir holds credentials that make an app by their names alone; see
	// apns.FromDir and fcm.FromDir. The apps above win over them.
	CredentialsDir string `yaml:"credentials_dir"`

	loaded Problems // what loading the file found, and where it sets what
}

// Renamed returns a line for each key of the file that has another name now, with
// its place and the new name. The old one is still read.
func (c *Config) Renamed() []string { return c.loaded.renamed }

// WebPushApps are the Web Push apps. A file may have the section of the only one in the
// place of a list.
type WebPushApps []webpush.Config

// Operations is the listener for metrics and health.
type Operations struct {
	// Listen is the address, host:port. Default 127.0.0.1:8061.
	Listen string `yaml:"listen"`
	// PasswordFile holds the password of the pages. Without it they are shown only
	// if Listen is a loopback address.
	PasswordFile string `yaml:"password_file"`
	// Exemplars has the histograms of wakes, pushes and signals name calls, by a
	// hash of the Call-ID, in OpenMetrics.
	Exemplars bool `yaml:"exemplars"`
}

// LoadListener is the listener that tells phones and load balancers how busy this instance is.
type LoadListener struct {
	// Listen is the address, host:port. Empty: there is no such listener.
	Listen string `yaml:"listen"`
	// RateLimit is how many requests a second one client may send, an IPv4 address
	// or an IPv6 network of 64 bits. Default 5; 0: no limit.
	RateLimit *int `yaml:"rate_limit"`
	// Connections bounds the open connections; an eighth of them may be of one
	// client. Default 1024.
	Connections int `yaml:"connections"`
}

func (l *LoadListener) setDefaults() {
	if l.RateLimit == nil {
		l.RateLimit = new(int)
		*l.RateLimit = 5
	}
	if l.Connections == 0 {
		l.Connections = 1024
	}
}

func (l *LoadListener) validate(c *Config, report func(field, problem string)) {
	if l.Listen != "" {
		_, port, err := net.SplitHostPort(l.Listen)
		switch {
		case err != nil || port == "":
			report("load.listen", "must be host:port, such as 0.0.0.0:8062")
		case port != "0" && (l.Listen == c.RPC.Listen || l.Listen == c.Operations.Listen):
			report("load.listen", "must not be that of rpc or operations")
		default:
			if _, err := net.LookupPort("tcp", port); err != nil {
				report("load.listen", "has a port that is not between 0 and 65535")
			}
		}
	}
	if *l.RateLimit < 0 {
		report("load.rate_limit", "must not be negative")
	}
	if l.Connections < 1 {
		report("load.connections", "must be at least 1")
	}
}

// Log says what is logged to standard error, and how.
type Log struct {
	// Level is the least level that is logged. Default info.
	Level slog.Level `yaml:"level"`
	// Format is LogJSON or LogText. Default LogJSON.
	Format string `yaml:"format"`
}

// The values of Log.Format.
const (
	LogJSON = "json"
	LogText = "text"
)

// Store says where bindings are kept.
type Store struct {
	// Type is StoreLocal or StoreRedis. Default StoreLocal.
	Type  string       `yaml:"type"`
	Local local.Config `yaml:"local"`
	Redis redis.Config `yaml:"redis"`
	// Fallback is what is done while Redis is away.
	Fallback fallback.Config `yaml:"fallback"`
}

// The values of Store.Type.
const (
	StoreLocal = "local"
	StoreRedis = "redis"
)

// Node is one SIP proxy.
type Node struct {
	// ID is how the node names itself in its requests.
	ID string `yaml:"id"`
	// Type is NodeKamailio, the default, or NodeOpenSIPS.
	Type string `yaml:"type"`
	// SIP is the SIP URI by which other nodes reach phones that registered here.
	// Optional: only for nodes that do not share their registrations.
	SIP string `yaml:"sip"`

	node.Config `yaml:",inline"`
}

// The values of Node.Type.
const (
	NodeKamailio = "kamailio"
	NodeOpenSIPS = "opensips"
)

// Kind returns what is special of the node's type.
func (n *Node) Kind() node.Kind {
	if n.Type == NodeOpenSIPS {
		return opensips.Kind()
	}
	return kamailio.Kind()
}

// SetDefaults fills what is not set.
func (c *Config) SetDefaults() {
	c.Load.setDefaults()
	c.RPC.SetDefaults()
	setDefault(&c.Operations.Listen, "127.0.0.1:8061")
	setDefault(&c.Log.Format, LogJSON)
	c.Wake.SetDefaults()
	c.Traces.SetDefaults()
	c.Upper.SetDefaults()
	c.Homer.SetDefaults()
	c.OTLP.SetDefaults()
	setDefault(&c.Store.Type, StoreLocal)
	c.Store.Local.Recent, c.Store.Redis.Recent = c.Wake.Recent, c.Wake.Recent
	c.Store.Local.SetDefaults()
	c.Store.Redis.SetDefaults()
	c.Store.Fallback.Recent, c.Store.Fallback.Retention = c.Wake.Recent, c.Store.Redis.Retention
	c.Store.Fallback.SetDefaults()
	for i := range c.Nodes {
		setDefault(&c.Nodes[i].Type, NodeKamailio)
		c.Nodes[i].SetDefaults()
	}
	apns.SetDefaults(c.APNs)
	for _, entry := range c.Apps() {
		entry.SetDefaults()
	}
}

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// Validate reports every problem that shows without reading other files. Call
// SetDefaults first.
func (c *Config) Validate(report func(field, problem string)) {
	below := func(field string) func(field, problem string) {
		return func(sub, problem string) { report(join(field, sub), problem) }
	}
	c.RPC.Validate(below("rpc"))
	if _, port, err := net.SplitHostPort(c.Operations.Listen); err != nil || port == "" {
		report("operations.listen", "must be host:port, such as 127.0.0.1:8061")
	} else if _, err := net.LookupPort("tcp", port); err != nil {
		report("operations.listen", "has a port that is not between 0 and 65535")
	} else if port != "0" && c.Operations.Listen == c.RPC.Listen {
		report("operations.listen", "must not be that of rpc")
	}
	c.Load.validate(c, report)
	if c.Log.Format != LogJSON && c.Log.Format != LogText {
		report("log.format", "must be json or text")
	}
	switch c.Store.Type {
	case StoreLocal:
		c.Store.Local.Validate(below("store.local"))
	case StoreRedis:
		c.Store.Redis.Validate(below("store.redis"))
		c.Store.Fallback.Validate(below("store.fallback"))
	default:
		report("store.type", "must be local or redis")
	}
	c.Wake.Validate(below("wake"))
	c.Traces.Validate(below("traces"))
	c.Upper.Validate(below("upper"))
	c.Homer.Validate(below("homer"))
	c.OTLP.Validate(below("otlp"))
	c.validateNodes(below)
	for _, entry := range c.Apps() {
		entry.Validate(below(entry.Field))
	}
	c.validateApps(report)
}

// nodeID is what a node id looks like: it is a metric label and part of keys.
var nodeID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// sipURI is a node's own address: it stands in a Path header.
var sipURI = regexp.MustCompile(`^sips?:([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(;transport=[a-z]+)?$`)

func (c *Config) validateNodes(below func(string) func(field, problem string)) {
	first := map[string]int{}
	for i := range c.Nodes {
		n := &c.Nodes[i]
		report := below(fmt.Sprintf("nodes[%d]", i))
		if !nodeID.MatchString(n.ID) {
			report("id", "must be 1 to 64 letters, digits, dots, hyphens and underscores, the first a letter or digit")
		} else if j, ok := first[n.ID]; ok {
			report("id", fmt.Sprintf("is the id of nodes[%d] too", j))
		} else {
			first[n.ID] = i
		}
		if n.SIP != "" && !sipURI.MatchString(n.SIP) {
			report("sip", "must be sip: and a host, port and transport if need be, such as sip:192.0.2.1:5060;transport=tcp")
		}
		if n.Type != NodeKamailio && n.Type != NodeOpenSIPS {
			report("type", "must be kamailio or opensips")
		}
		n.Validate(n.Kind(), report)
	}
}

// validateApps finds apps that claim the same devices. Two credentials of one
// iOS app are fine if they are for different environments.
func (c *Config) validateApps(report func(field, problem string)) {
	first := map[[3]string]string{} // by provider, name and environment: the app
	claim := func(app, field, provider, name, environment string) {
		key := [3]string{provider, name, environment}
		switch other, ok := first[key]; {
		case !ok:
			first[key] = app
		case name != "" && other != app: // a name twice in one app is for the app to report
			report(app+"."+field, "is served by "+other+" too")
		}
	}
	for i, a := range c.APNs {
		environments := a.Environments
		if environments == nil { // those of a certificate are known when it has been read
			environments = []pnparam.Environment{a.Environment}
		}
		for _, env := range environments {
			claim(fmt.Sprintf("apns[%d]", i), "bundle_id", "apns", a.BundleID, string(env))
		}
	}
	for i, a := range c.FCM {
		app := fmt.Sprintf("fcm[%d]", i)
		claim(app, "project_id", "fcm", a.ProjectID, "")
		for j, name := range a.Packages {
			claim(app, fmt.Sprintf("packages[%d]", j), "fcm", name, "")
		}
	}
	for i, a := range c.HMS {
		app := fmt.Sprintf("hms[%d]", i)
		claim(app, "client_id", "hms", a.ClientID, "")
		for j, name := range a.Packages {
			claim(app, fmt.Sprintf("packages[%d]", j), "hms", name, "")
		}
	}
	rest := ""
	for i, a := range c.WebPush {
		app := fmt.Sprintf("webpush[%d]", i)
		for j, name := range a.Packages {
			claim(app, fmt.Sprintf("packages[%d]", j), "webpush", name, "")
		}
		switch {
		case len(a.Packages) > 0:
		case rest != "":
			report(app+".packages", "is missing, as in "+rest+": one app alone serves phones that name none")
		default:
			rest = app
		}
	}
}

// Problems returns a collection of the problems that loading the configuration
// found, none for one that was loaded without an error. It knows where in its file
// this configuration sets what.
func (c *Config) Problems() *Problems {
	p := c.loaded
	p.list, p.failed = slices.Clone(p.list), slices.Clone(p.failed)
	return &p
}

// places is Problems without any.
func (c *Config) places() *Problems { return &Problems{source: c.loaded.source} }
