package fcm_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/fcm"
)

const androidApp, secondApp = "1:1234567890:android:321abc456def7890", "1:1234567890:android:fedcba9876543210"

// entry is one of the FCM Data API.
func entry(label string, day, pushes int, lowered, dozed float64) string {
	return fmt.Sprintf(`{"appId":"x","date":{"year":2026,"month":11,"day":%d},"analyticsLabel":%q,"data":{"countMessagesAccepted":"%d",
		"messageInsightPercents":{"priorityLowered":%g},"deliveryPerformancePercents":{"delayedDeviceDoze":%g}}}`, day, label, pushes, lowered, dozed)
}

func answer(entries ...string) string {
	return `{"androidDeliveryData":[` + strings.Join(entries, ",") + `]}`
}

// judged runs a dispatcher with the configuration's app, and asks Google. The second
// function returns the series of Google's verdict, the third what was logged.
func judged(t *testing.T, c *fcm.Config) (ask func(), series func() string, log *bytes.Buffer) {
	t.Helper()
	reg := prometheus.NewRegistry()
	log = new(bytes.Buffer)
	d := push.NewDispatcher(slog.New(slog.NewTextHandler(log, nil)), reg)
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := d.SetApps([]push.App{build(t, c)}); err != nil {
		t.Fatal(err)
	}
	return func() { d.AskVerdicts(t.Context()) }, func() string {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if strings.HasPrefix(f.GetName(), "sipwake_fcm_") {
					var labels []string
					for _, l := range m.GetLabel() {
						labels = append(labels, l.GetValue())
					}
					lines = append(lines, fmt.Sprintf("%s %s %g", strings.TrimPrefix(f.GetName(), "sipwake_fcm_"), strings.Join(labels, " "), m.GetGauge().GetValue()))
				}
			}
		}
		return strings.Join(lines, "\n")
	}, log
}

// Google's verdict is in the metrics by day and kind, over all apps of the project, for
// the last days.
func TestVerdict(t *testing.T) {
	first := []string{entry("", 20, 5, 50, 50), entry("campaign", 20, 5, 50, 50), entry("sipwake_chat", 27, 10, 0, 20)}
	for day := 18; day <= 27; day++ {
		first = append(first, entry("sipwake_call", day, 300, 4, 8))
	}
	_, c := start(t, fcmsim.Options{Delivery: map[string]string{
		androidApp: answer(first...), secondApp: answer(entry("sipwake_call", 27, 100, 0, 0)),
	}})
	c.DeliveryData = []string{androidApp, secondApp}
	ask, series, log := judged(t, c)
	ask()
	got := series()
	for _, want := range []string{
		"priority_lowered_ratio example 2026-11-27 call 0.03", "delayed_doze_ratio example 2026-11-27 call 0.06",
		"delayed_doze_ratio example 2026-11-27 chat 0.2", "priority_lowered_ratio example 2026-11-21 call 0.04",
	} {
		if want = strings.Replace(want, "example", project, 1); !strings.Contains(got+"\n", want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	if n := strings.Count(got, "\n") + 1; n != 2*(7+1) {
		t.Errorf("%d series:\n%s", n, got)
	}
	if log.Len() > 0 {
		t.Error(log)
	}
}

// An API that is not enabled costs one line of the log, and nothing else.
func TestVerdictOff(t *testing.T) {
	_, c := start(t, fcmsim.Options{})
	c.DeliveryData = []string{androidApp}
	ask, series, log := judged(t, c)
	for range 3 {
		ask()
	}
	const want = `the FCM Data API answered HTTP 403 PERMISSION_DENIED: is it enabled in the project, and may the account read it?`
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, want) || !strings.Contains(got, "level=WARN") {
		t.Errorf("log: %s", got)
	}
	if got := series(); got != "" {
		t.Error(got)
	}
	if r := client(t, c).Push(within(t, 10e9), call(1)); r.Reason != push.Accepted {
		t.Errorf("%+v", r)
	}
}

// Pushes have a label by kind if Google is asked, unless the template has its own, and
// none else.
func TestAnalyticsLabel(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	f := func(payload string, ids []string, want string) {
		t.Helper()
		c := *c
		c.DeliveryData = ids
		n := call(1)
		n.Payload = []byte(payload)
		if r := client(t, &c).Push(within(t, 10e9), n); r.Reason != push.Accepted {
			t.Fatalf("%+v", r)
		}
		all := sim.Pushes()
		if got := string(all[len(all)-1].Message.Options); got != want {
			t.Errorf("%s: %s, want %s", payload, got, want)
		}
	}
	asked := []string{androidApp}
	f(`{"data":{"a":"b"}}`, nil, "")
	f(`{"data":{"a":"b"}}`, asked, `{"analytics_label":"sipwake_call"}`)
	f(`{"fcm_options":{"analytics_label":"own"}}`, asked, `{"analytics_label":"own"}`)
	f(`{"android_v2":{"background_sync":{}}}`, asked, `{"analytics_label":"sipwake_call"}`)
}
