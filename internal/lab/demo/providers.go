package demo

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sipwake/sipwake/internal/lab/services"
)

// Providers runs simulated push services alone.
type Providers struct {
	Dir      string
	Team     string
	Bundles  []string
	Project  string
	Packages []string
	APNs     int
	FCM      int
	WebPush  int
	Control  int
}

// Run runs the services until ctx ends, and prints each push.
func (c *Providers) Run(ctx context.Context) error {
	dir, _, err := labDir(c.Dir)
	if err != nil {
		return err
	}
	local := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	s, err := services.Start(services.Options{APNs: local(c.APNs), FCM: local(c.FCM), WebPush: local(c.WebPush), OnPush: printPush})
	if err != nil {
		return err
	}
	defer s.Close()
	text, err := s.WriteConfig(dir, services.Apps{Team: c.Team, Bundles: c.Bundles, Project: c.Project, Packages: c.Packages})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "apps.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return fmt.Errorf("cannot write the configuration: %w", err)
	}
	control, err := startControl(c.Control, providerRoutes(s))
	if err != nil {
		return err
	}
	defer control.close()
	fmt.Printf(`providers: APNs      %s
providers: FCM       %s
providers: Web Push  https://%s
providers: control   %s  (curl it: it says what can be asked)
providers: %s has the apps for sipwake's configuration
providers: pushes are printed until Ctrl-C
`, s.APNs.URL(), s.FCM.URL(), s.WebPush.Host(), control.url, file)
	<-ctx.Done()
	return nil
}

// printPush prints a push in one line, or two if it has a payload.
func printPush(p services.Push) {
	text := fmt.Sprintf("%s  %s\n", p.At.Format(time.TimeOnly), p)
	if p.Payload != "" {
		text += "          " + p.Payload + "\n"
	}
	fmt.Print(text) // in one write, for pushes come at once
}

func providerRoutes(s *services.Services) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", answering(func(r *http.Request) (string, error) { return providersHelp("http://" + r.Host), nil }))
	mux.Handle("POST /providers/{service}/{behaviour}", answering(func(r *http.Request) (string, error) { return behave(s, r) }))
	mux.Handle("POST /devices/{device}/{behaviour}", answering(func(r *http.Request) (string, error) {
		n, err := strconv.Atoi(r.PathValue("device"))
		if err == nil {
			err = s.BehaveToDevice(n, r.PathValue("behaviour"))
		}
		return fmt.Sprintf("device %d is from now on told: %s", n, r.PathValue("behaviour")), err
	}))
	mux.Handle("POST /subscriptions", answering(func(*http.Request) (string, error) {
		sub, err := s.WebPush.MakeSubscription("")
		return sub.URL, err
	}))
	return mux
}

func providersHelp(url string) string {
	return fmt.Sprintf(`Simulated push services. Devices are numbered as they are pushed.

  curl -X POST %[1]s/providers/apns/unavailable   how a push service treats all; works: well again
  curl -X POST %[1]s/devices/1/unregistered       how it treats one device; works: as all
  curl -X POST %[1]s/subscriptions                makes a Web Push subscription, for pn-prid (escaped)

%[2]s`, url, listBehaviours())
}
