package demo

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"time"
)

// Interop makes calls with clients of other makers through a real Kamailio.
type Interop struct {
	Sipwake string
}

// interopTimeout bounds the whole run.
const interopTimeout = 4 * time.Minute

//go:embed interop
var interopFiles embed.FS

// interop is a stage with clients of other makers.
type interop struct {
	stage
	clients clients
	baresip *baresip

	calls, good int
}

// Run starts everything, makes the calls and stops everything. It fails unless each
// call went as expected; clients that are missing are skipped.
func (c *Interop) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, interopTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "sipwake-interop-")
	if err != nil {
		return fmt.Errorf("cannot make a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	r := &interop{stage: stage{dir: dir, sipwake: c.Sipwake, store: "local"}}
	r.kind = webSocketKamailio(func() { r.clients.noWebSocket = true })
	defer r.stopAll()
	if err := r.startAll(ctx); err != nil {
		return err
	}
	r.clients.print(ctx, c.Sipwake)
	for _, t := range r.talks() {
		r.play(ctx, t)
	}
	r.load(ctx)
	fmt.Printf("\ninterop: %d calls, %d as expected, %d failed\n", r.calls, r.good, r.calls-r.good)
	switch {
	case r.calls > r.good:
		r.printLogs()
		return errors.New("the clients do not all work")
	case r.calls == 0:
		return errors.New("no client is there")
	}
	return nil
}

func (r *interop) startAll(ctx context.Context) (err error) {
	if r.clients, err = findClients(); err != nil {
		return err
	}
	for _, name := range []string{"phone.cjs", "calls.xml"} {
		text, err := interopFiles.ReadFile("interop/" + name)
		if err != nil {
			return err
		}
		if _, err := r.writeFile(name, text); err != nil {
			return err
		}
	}
	if err := r.start(ctx); err != nil {
		return err
	}
	if r.clients.baresip != "" {
		if r.baresip, err = startBaresip(ctx, &r.stage, r.clients.baresip, r.clients.baresipModules); err != nil {
			return err
		}
		r.logs = append(r.logs, r.baresip)
	}
	return nil
}

func (r *interop) stopAll() {
	if r.baresip != nil {
		r.baresip.close()
	}
	r.stop()
}
