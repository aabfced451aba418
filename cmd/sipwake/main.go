// Command sipwake wakes sleeping phones for SIP proxies.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/alecthomas/kong"
)

// version is set by the linker. After a plain go build the build info is used.
var version string

// cli is the command line. Each command has its own file.
type cli struct {
	Serve     serveCmd     `cmd:"" help:"Run the service."`
	Check     checkCmd     `cmd:"" help:"Read a configuration and every file it names, and say what is wrong."`
	Templates templatesCmd `cmd:"" help:"Show every app's payloads, filled with sample values."`
	Bindings  bindingsCmd  `cmd:"" help:"List, show, remove, export and import bindings."`
	Upper     upperCmd     `cmd:"" help:"List, show, refresh and remove registrations at PBXs behind a gateway."`
	Send      sendCmd      `cmd:"" help:"Send a push to a user's phones or to one token, or show what became of one."`
	SendMany  sendManyCmd  `cmd:"" help:"Send a push to a list of users or to all of an app, at a pace."`
	Pushes    pushesCmd    `cmd:"" help:"List the pushes of send and send-many that are kept: what is queued, what failed."`
	Trace     traceCmd     `cmd:"" help:"Show what happened to calls, and why a phone did not ring."`
	Status    statusCmd    `cmd:"" help:"Show how the running sipwake is doing."`
	Stats     statsCmd     `cmd:"" help:"Show how many bindings, REGISTERs, calls and pushes there were, the latter by app."`
	WebPush   webpushCmd   `cmd:"" name:"webpush" help:"Make and show VAPID keys."`
	DB        dbCmd        `cmd:"" name:"db" help:"Back up the embedded store; check a file, and rescue what can be read of it."`
	Acrobits  acrobitsCmd  `cmd:"" help:"Print the keys with which apps made with Acrobits' SDK report their tokens."`
	Health    healthCmd    `cmd:"" help:"Ask whether the running sipwake can work: exit status 0 if so, else 1."`

	Wire wireCmd `cmd:"" help:"Print a patch that puts sipwake.cfg into your kamailio.cfg. No file is changed."`

	Completion completionCmd `cmd:"" help:"Print a script that completes commands in a shell."`
	Licenses   licensesCmd   `cmd:"" help:"Print the licences of all that is in this program."`
	Man        manCmd        `cmd:"" hidden:"" help:"Print the manual page."`

	Version kong.VersionFlag `help:"Print the version."`
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	var c cli
	parser, err := kong.New(&c, kong.Name("sipwake"), kong.UsageOnError(),
		kong.Description("Wakes sleeping phones for SIP proxies with push notifications."),
		kong.Vars{"version": buildVersion(), "config": "/etc/sipwake/sipwake.yml"})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	ctx, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sipwake:", err)
		return 2
	}
	if err := ctx.Run(); err != nil {
		if !errors.Is(err, errLogged) {
			fmt.Fprintln(os.Stderr, "sipwake:", err)
		}
		return 1
	}
	return 0
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "unreleased"
}
