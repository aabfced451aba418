package tests

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/fcmsim"
)

// A restart loses no binding, and a call right after it wakes the phone.
func TestRestartKeepsBindings(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	stop(t, r.app)
	r.start()
	if res := r.startWake("bob@example.com", "1-1", nil); res.Outcome != "pushing" {
		t.Fatalf("wake.start: %+v", res)
	}
	r.pushed(apnsToken(1), 1)
	r.register("bob@example.com", apnsContact("bob", apnsToken(1)), obj{"call_id": "reg2"})
	r.node.waitFor(t, "wake", "1-1")
}

// Stop finishes what is queued: current pushes, and signals to nodes.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{apns: apnssim.Options{Latency: 300 * time.Millisecond}})
	r.node.answer = func(_ signal, n int) string {
		if n <= 3 {
			return "nocontact"
		}
		return ""
	}
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	r.asleep("carol@example.com", apnsContact("carol", apnsToken(2)))
	r.startWake("bob@example.com", "1-1", nil)
	r.startWake("carol@example.com", "2-2", nil)
	r.register("carol@example.com", apnsContact("carol", apnsToken(2)), obj{"call_id": "reg2"})
	stop(t, r.app)
	if n := r.pushes(apnsToken(1)); n != 1 {
		t.Errorf("%d pushes after stop", n)
	}
	if n := len(r.node.seen("wake", "2-2")); n != 4 {
		t.Errorf("%d signals after stop, want 4: three refused, one taken", n)
	}
}

// A wake.end drops the pushes that have not been sent.
func TestEndDropsQueuedPushes(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	r.apns.Behave(apnsToken(1), apnssim.Behaviour{Status: 429, Reason: "TooManyRequests", RetryAfter: "1"}, apnssim.Behaviour{})
	r.startWake("bob@example.com", "1-1", nil)
	r.pushed(apnsToken(1), 1) // refused, the next try waits
	if !r.endWake("bob@example.com", "1-1", "cancelled") {
		t.Fatal("the wake was not pending")
	}
	eventually(t, "dropped", func() bool { return strings.Contains(r.trace("bob@example.com"), "dropped") })
	if n := r.pushes(apnsToken(1)); n != 1 {
		t.Errorf("%d pushes; the call was over after the first", n)
	}
	if r.endWake("bob@example.com", "1-1", "cancelled") {
		t.Error("ended twice")
	}
}

// Reload takes a rotated key, a new node and new tokens; a broken file changes
// nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	second := newNode(t)
	r := newRig(t, rigOptions{})
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	r.write("sipwake.yml", strings.Replace(string(text), "nodes:", "nodes:\n  - id: edge2\n    url: "+second.url()+
		"\n    secret_file: "+r.write("n2", nodeSecret), 1))
	if _, err := r.apns.MakeKey(r.dir, team, "KEY1234567"); err != nil { // the same file, another key
		t.Fatal(err)
	}
	if e := r.try("wake.start", obj{"node": "edge2", "aor": "x@example.com", "call_id": "c", "call": "c", "kind": "call"}, nil); e == nil || e.Code != -32004 {
		t.Fatalf("a node that is not configured yet: %+v", e)
	}
	r.reload()
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	r.startWake("bob@example.com", "1-1", obj{"node": "edge2"})
	r.pushed(apnsToken(1), 1)
	if p := r.apns.Pushes(); p[0].Status != 200 {
		t.Errorf("pushed with the old key: %+v", p[0])
	}
	r.register("bob@example.com", apnsContact("bob", apnsToken(1)), obj{"call_id": "reg2"})
	second.waitFor(t, "wake", "1-1")

	if err := os.Remove(r.dir + "/n2"); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.app.Reload(cfg); err == nil || !strings.Contains(err.Error(), "nodes[0].secret_file") {
		t.Fatalf("reload without the node's secret: %v", err)
	}
	if _, metrics := r.get("/metrics"); !strings.Contains(metrics, "sipwake_config_reload_successful 0") {
		t.Error("the failed reload is not in the metrics")
	}
	r.startWake("bob@example.com", "2-2", obj{"node": "edge2"}) // all is as before
}

// edit replaces a text in sipwake's configuration file.
func (r *rig) edit(from, to string) {
	r.t.Helper()
	text, err := os.ReadFile(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	if !strings.Contains(string(text), from) {
		r.t.Fatalf("no %q in the configuration", from)
	}
	r.write("sipwake.yml", strings.ReplaceAll(string(text), from, to))
}

func (r *rig) reload() {
	r.t.Helper()
	cfg, err := config.Load(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.app.Reload(cfg); err != nil {
		r.t.Fatal(err)
	}
}

// The operations listener: health, readiness and every metric the documentation
// names.
func TestOperations(t *testing.T) {
	t.Parallel()
	const android = "1:1234567890:android:321abc456def7890"
	verdict := `{"androidDeliveryData":[{"date":{"year":2026,"month":11,"day":27},"analyticsLabel":"sipwake_call","data":{"countMessagesAccepted":"9"}}]}`
	r := newRig(t, rigOptions{wake: "  refresh: {every: 20ms}",
		fcm: fcmsim.Options{Delivery: map[string]string{android: verdict}}, fcmConfig: "    delivery_data: ['" + android + "']",
		more: "homer: {address: 127.0.0.1:9}\notlp: {endpoint: \"http://127.0.0.1:9\"}\n" +
			"acrobits: {listen: 127.0.0.1:0, secret_file: " + writeTemp(t, acrobitsSecret) + "}"})
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/nowhere": 404} {
		if status, _ := r.get(path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	r.startWake("bob@example.com", "1-1", nil)
	r.pushed(apnsToken(1), 1)
	r.call("push.relay", obj{"id": "1", "kind": "custom", "provider": "fcm", "app": project, "token": "fcm-token-relayed", "ttl_s": 30,
		"values": obj{"title": "t"}}, nil)
	eventually(t, "the bindings are counted, and Google was asked", func() bool {
		_, metrics := r.get("/metrics")
		return strings.Contains(metrics, "sipwake_bindings{") && strings.Contains(metrics, "sipwake_fcm_priority_lowered_ratio{")
	})
	_, metrics := r.get("/metrics")
	shared, _ := redisRig(t)
	_, more := shared.get("/metrics")
	metrics += endOfScrape + more
	doc, err := os.ReadFile("../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	exported := series(t, metrics)
	documented := map[string]string{}
	for _, line := range strings.Split(string(doc), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) < 3 || !strings.HasPrefix(cells[0], "`sipwake_") {
			continue
		}
		name, labels, _ := strings.Cut(strings.Trim(cells[0], "`}"), "{")
		sorted := strings.Split(labels, ",")
		slices.Sort(sorted)
		documented[name] = cells[1] + " {" + strings.Join(sorted, ",") + "}"
		if got := exported[name]; got != documented[name] && !strings.Contains(name, "credential_expiry") {
			t.Errorf("%s is documented as %s, exported as %q", name, documented[name], got)
		}
	}
	for name := range exported {
		if strings.HasPrefix(name, "sipwake_") && documented[name] == "" {
			t.Errorf("exported, but not documented: %s", name)
		}
	}
}

// series returns the type and the labels of each metric that an instance exports,
// as "counter {kind,outcome}".
func series(t *testing.T, metrics string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, text := range strings.SplitAfter(metrics, endOfScrape) {
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(strings.NewReader(strings.TrimSuffix(text, endOfScrape)))
		if err != nil {
			t.Fatal(err)
		}
		for name, f := range families {
			var labels []string
			for _, l := range f.GetMetric()[0].GetLabel() {
				labels = append(labels, l.GetName())
			}
			slices.Sort(labels)
			found[name] = strings.ToLower(f.GetType().String()) + " {" + strings.Join(labels, ",") + "}"
		}
	}
	return found
}

// endOfScrape separates the metrics of two instances.
const endOfScrape = "# end of scrape\n"
