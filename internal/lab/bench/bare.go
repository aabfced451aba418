package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/apns"
)

// payload is about as long as sipwake's.
var payload = []byte(`{"aps":{"content-available":1},"ntype":0,"nfromusername":"alice","nfrom":"sip:alice@example.com","nmsg":"",` +
	`"ncallid":"call-123456","ntousr":"user12345@example.com","handle":"alice","callUUID":"0193e1c4-0000-7000-8000-000000000001"}`)

// Bare is a loop over nothing but the APNs client.
type Bare struct {
	Endpoint, CAFile, KeyFile string
	Client                    string // http2 of the app
	Round                     time.Duration
}

// bareResult is what the loop prints.
type bareResult struct {
	Pushes int           `json:"pushes"`
	CPU    time.Duration `json:"cpu_ns"`
}

// Run pushes for a while and prints the number of pushes and their CPU time.
func (b *Bare) Run(ctx context.Context) error {
	c := apns.Config{BundleID: bundle, TeamID: team, KeyID: keyID, KeyFile: b.KeyFile, Endpoint: b.Endpoint, CAFile: b.CAFile,
		HTTP2: apns.HTTP2(b.Client)}
	c.SetDefaults()
	apps, err := c.Apps(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() {
		for _, a := range apps {
			a.Client.Close()
		}
	}()
	if _, err := loop(ctx, apps[0].Client, b.Round/5); err != nil { // connects
		return err
	}
	before := selfCPU()
	n, err := loop(ctx, apps[0].Client, b.Round)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(bareResult{n, selfCPU() - before})
}

func selfCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail for the own process
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func loop(ctx context.Context, client push.Provider, d time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var done, failed atomic.Int64
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				n := push.Notification{Kind: push.Call, Service: pnparam.VoIP, Token: secret.NewToken(token(i, 64)), Payload: payload,
					Deadline: time.Now().Add(30 * time.Second), Delivery: push.Delivery{Priority: push.High, PushType: push.TypeVoIP}}
				one, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
				reply := client.Push(one, &n)
				cancel()
				if reply.Reason != push.Accepted {
					failed.Add(1)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if failed.Load() > 0 {
		return 0, errors.New("a push of the bare client failed")
	}
	return int(done.Load()), nil
}

// barePushes runs the loop with each HTTP/2 client, each in its own process.
func (b *bench) barePushes(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, client := range []apns.HTTP2{apns.HTTP2Own, apns.HTTP2Standard} {
		cmd := exec.CommandContext(ctx, self, "bare", "--endpoint", b.apns.URL(), "--ca-file", b.ca,
			"--key-file", b.key, "--client", string(client), "--round", b.Round.String())
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("cannot run the bare client: %w", err)
		}
		var r bareResult
		if err := json.Unmarshal(out, &r); err != nil {
			return fmt.Errorf("cannot run the bare client: %w", err)
		}
		b.add("bare push, http2 "+string(client)+" cpu", "µs", float64(r.CPU.Nanoseconds())/1e3/float64(max(r.Pushes, 1)))
		b.add("bare push, http2 "+string(client)+" rate", "1/s", float64(r.Pushes)/b.Round.Seconds())
	}
	return nil
}
