package main

import (
	"context"
	"time"

	"github.com/sipwake/sipwake/internal/lab/demo"
)

type demoCmd struct {
	Sipwake string `default:"bin/sipwake" help:"The sipwake to run (${default})." type:"path"`
	Proxy   string `default:"kamailio" help:"The SIP proxy to call through (${default})."`
	PBX     string `name:"pbx" help:"A PBX without push that the proxy is a gateway of: asterisk."`
	Store   string `default:"local" enum:"local,redis" help:"Where it keeps bindings: local or redis (${default})."`
}

// Run is demo.Demo's.
func (c *demoCmd) Run(ctx context.Context) error {
	d := demo.Demo(*c)
	return d.Run(ctx)
}

type upCmd struct {
	Sipwake    string `default:"bin/sipwake" help:"The sipwake to run (${default})." type:"path"`
	Proxy      string `default:"kamailio" help:"The SIP proxy to call through (${default})."`
	Store      string `default:"local" enum:"local,redis" help:"Where it keeps bindings: local or redis (${default})."`
	Dir        string `help:"Folder for sipwake's configuration and files; default a temporary one." type:"path"`
	Calls      bool   `default:"true" negatable:"" help:"Make a round of calls at the start, each of which ends another way (${default})."`
	Control    int    `name:"control-port" help:"Port of the control, on 127.0.0.1 as all are; 0, the default, picks a free one."`
	SIP        int    `name:"sip-port" help:"Port of the SIP proxy, UDP and TCP."`
	RPC        int    `name:"rpc-port" help:"Port of sipwake's RPC."`
	Operations int    `name:"operations-port" help:"Port of sipwake's pages and metrics."`
}

// Run is demo.Up's.
func (c *upCmd) Run(ctx context.Context) error {
	d := demo.Up(*c)
	return d.Run(ctx)
}

type providersCmd struct {
	Dir      string   `required:"" help:"Folder for the keys and for apps.yml, the part of sipwake's configuration." type:"path"`
	Team     string   `default:"TEAM123456" help:"Team ID of the iOS apps (${default})."`
	Bundles  []string `name:"bundle" default:"org.example.phone" help:"Bundle ID of an iOS app; may be repeated (${default})."`
	Project  string   `default:"example-phone" help:"Firebase project (${default})."`
	Packages []string `name:"package" help:"Further name that Android phones send, such as a package name; may be repeated."`
	APNs     int      `name:"apns-port" help:"Port of the simulated APNs, on 127.0.0.1 as all are; 0, the default, picks a free one."`
	FCM      int      `name:"fcm-port" help:"Port of the simulated FCM."`
	WebPush  int      `name:"webpush-port" help:"Port of the simulated Web Push service."`
	Control  int      `name:"control-port" help:"Port of the control."`
}

// Run is demo.Providers's.
func (c *providersCmd) Run(ctx context.Context) error {
	d := demo.Providers(*c)
	return d.Run(ctx)
}

type watchCmd struct {
	Sipwake string `default:"bin/sipwake" help:"The sipwake to run (${default})." type:"path"`
	Proxy   string `default:"kamailio" help:"The SIP proxy to call through (${default})."`
	Store   string `default:"local" enum:"local,redis" help:"Where it keeps bindings: local or redis (${default})."`
	Grafana string `default:"grafana" help:"The folder with dashboards, rules and provisioning (${default})." type:"path"`
}

// Run is demo.Watch's.
func (c *watchCmd) Run(ctx context.Context) error {
	d := demo.Watch(*c)
	return d.Run(ctx)
}

type screenshotsCmd struct {
	Sipwake string        `default:"bin/sipwake" help:"The sipwake to run (${default})." type:"path"`
	Proxy   string        `default:"kamailio" help:"The SIP proxy to call through (${default})."`
	Store   string        `default:"local" enum:"local,redis" help:"Where it keeps bindings: local or redis (${default})."`
	Dir     string        `default:"docs/pictures" help:"Folder for the pictures (${default})." type:"path"`
	Rounds  int           `default:"3" help:"How often the lab's calls are made before (${default})."`
	Pause   time.Duration `default:"12s" help:"Pause after each round: the page's graphs have a point every 10 s (${default})."`
}

// Run is demo.Screenshots's.
func (c *screenshotsCmd) Run(ctx context.Context) error {
	d := demo.Screenshots(*c)
	return d.Run(ctx)
}

type interopCmd struct {
	Sipwake string `default:"bin/sipwake" help:"The sipwake to run (${default})." type:"path"`
}

// Run is demo.Interop's.
func (c *interopCmd) Run(ctx context.Context) error {
	d := demo.Interop(*c)
	return d.Run(ctx)
}
