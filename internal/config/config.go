// Package config reads sipwake's single configuration file. Each part of sipwake defines
// its own settings, defaults and rules. This package combines them and adds what concerns
// more than one part.
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
	// Relays are sipwakes of app vendors, which push on behalf of this one.
	Relays []relay.Config `yaml:"relays"`
	// CredentialsDir holds credentials whose file names alone define an app; see
	// apns.FromDir and fcm.FromDir. The apps above take precedence.
	CredentialsDir string `yaml:"credentials_dir"`

	loaded Problems // problems found while loading, and the lines of the settings
}

// Renamed returns a line for each key of the file that has been renamed, with its place
// and the new name. The old name still works.
func (c *Config) Renamed() []string { return c.loaded.renamed }

// WebPushApps are the Web Push apps. If there is only one, the file may have its section
// instead of a list.
type WebPushApps []webpush.Config

// Operations is the listener for metrics and health.
type Operations struct {
	// Listen is the address, host:port. Default 127.0.0.1:8061.
	Listen string `yaml:"listen"`
	// PasswordFile holds the password of the pages. Without a password they are shown
	// only if Listen is a loopback address.
	PasswordFile string `yaml:"password_file"`
	// Exemplars adds OpenMetrics exemplars to the histograms of wakes, pushes and signals.
	// They identify calls by a hash of the Call-ID.
	Exemplars bool `yaml:"exemplars"`
}

// LoadListener is the listener that tells phones and load balancers how busy this instance is.
type LoadListener struct {
	// Listen is the address, host:port. Empty: no listener.
	Listen string `yaml:"listen"`
	// RateLimit is how many requests per second one client may send. A client is an IPv4
	// address or an IPv6 /64. Default 5; 0: no limit.
	RateLimit *int `yaml:"rate_limit"`
	// Connections limits the open connections. One client may have an eighth of them.
	// Default 1024.
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

// Log configures logging to standard error.
type Log struct {
	// Level is the minimum level. Default info.
	Level slog.Level `yaml:"level"`
	// Format is LogJSON or LogText. Default LogJSON.
	Format string `yaml:"format"`
}

// The values of Log.Format.
const (
	LogJSON = "json"
	LogText = "text"
)

// Store configures where bindings are stored.
type Store struct {
	// Type is StoreLocal or StoreRedis. Default StoreLocal.
	Type  string       `yaml:"type"`
	Local local.Config `yaml:"local"`
	Redis redis.Config `yaml:"redis"`
	// Fallback configures what happens while Redis is unavailable.
	Fallback fallback.Config `yaml:"fallback"`
}

// The values of Store.Type.
const (
	StoreLocal = "local"
	StoreRedis = "redis"
)

// Node is one SIP proxy.
type Node struct {
	// ID is the name that the node uses for itself in its requests.
	ID string `yaml:"id"`
	// Type is NodeKamailio, the default, or NodeOpenSIPS.
	Type string `yaml:"type"`
	// SIP is the SIP URI through which other nodes reach phones that registered here.
	// Only needed for nodes that do not share their registrations.
	SIP string `yaml:"sip"`

	node.Config `yaml:",inline"`
}

// The values of Node.Type.
const (
	NodeKamailio = "kamailio"
	NodeOpenSIPS = "opensips"
)

// Kind returns the properties of the node's type.
func (n *Node) Kind() node.Kind {
	if n.Type == NodeOpenSIPS {
		return opensips.Kind()
	}
	return kamailio.Kind()
}

// SetDefaults fills in the settings that are not set.
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

// Validate reports every problem that can be found without reading other files. Call
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

// nodeID matches node ids, which are metric labels and parts of keys.
var nodeID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// sipURI matches a node's own address, which is used in a Path header (RFC 3327).
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

// validateApps reports apps that claim the same devices. One iOS app may have two
// credentials if they are for different environments.
func (c *Config) validateApps(report func(field, problem string)) {
	first := map[[3]string]string{} // by provider, name and environment: the app
	claim := func(app, field, provider, name, environment string) {
		key := [3]string{provider, name, environment}
		switch other, ok := first[key]; {
		case !ok:
			first[key] = app
		case name != "" && other != app: // the app itself reports a name that it has twice
			report(app+"."+field, "is served by "+other+" too")
		}
	}
	for i, a := range c.APNs {
		environments := a.Environments
		if environments == nil { // a certificate's are known only after reading it
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

// Problems returns a new collection with the problems found while loading this
// configuration, empty if it was loaded without an error. It knows the line of each
// setting in the file.
func (c *Config) Problems() *Problems {
	p := c.loaded
	p.list, p.failed = slices.Clone(p.list), slices.Clone(p.failed)
	return &p
}

// places is Problems without the problems found so far.
func (c *Config) places() *Problems { return &Problems{source: c.loaded.source} }
