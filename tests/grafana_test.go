package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/lab/stack"
	"github.com/sipwake/sipwake/internal/metric"
	"github.com/sipwake/sipwake/internal/store/storetest"
)

// found returns the path of a program that make setup provides.
func found(t *testing.T, name string) string {
	t.Helper()
	path, err := stack.Find(name)
	if errors.Is(err, stack.ErrMissing) && os.Getenv("SIPWAKE_REQUIRE_ALL") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := exec.Command(found(t, "promtool"), args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// The rules are valid, and fire when they should and not else.
func TestGrafanaRules(t *testing.T) {
	t.Parallel()
	promtool(t, "", "check", "config", "../grafana/prometheus.yml")
	promtool(t, "", "check", "rules", "../grafana/rules/recording.yml", "../grafana/rules/alerts.yml")
	tests, err := filepath.Glob("../grafana/rules/*_test.yml")
	if err != nil || len(tests) == 0 {
		t.Fatalf("no tests of the rules: %v", err)
	}
	promtool(t, "", append([]string{"test", "rules"}, tests...)...)
	text := readDoc(t, "grafana/rules/alerts.yml")
	tested := ""
	for _, file := range tests {
		tested += readDoc(t, strings.TrimPrefix(file, "../"))
	}
	guide := readDoc(t, "docs/ALERTS.md")
	names := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(text, -1)
	for _, m := range names {
		if !strings.Contains(tested, `alertname="`+m[1]+`"`) {
			t.Errorf("no test of the alert %s", m[1])
		}
		if !strings.Contains(guide, "\n## "+m[1]+"\n") {
			t.Errorf("ALERTS.md says nothing of %s", m[1])
		}
		if !strings.Contains(text, "/docs/ALERTS.md#"+strings.ToLower(m[1])+"\n") {
			t.Errorf("no alert links to what ALERTS.md says of %s", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(guide, -1) {
		if !slices.ContainsFunc(names, func(n []string) bool { return n[1] == m[1] }) {
			t.Errorf("ALERTS.md has %s, which is no alert", m[1])
		}
	}
}

// prometheus is a real one that scrapes real sipwakes.
type prometheus struct {
	t   *testing.T
	url string
}

// get queries the API and decodes the answer into data.
func (p prometheus) get(path string, query url.Values, data any) {
	p.t.Helper()
	res, err := http.Get(p.url + "/api/v1/" + path + "?" + query.Encode())
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct {
		Error string
		Data  json.RawMessage
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		p.t.Fatal(err)
	}
	if answer.Error != "" {
		p.t.Fatalf("%s %v: %s", path, query, answer.Error)
	}
	if err := json.Unmarshal(answer.Data, data); err != nil {
		p.t.Fatalf("%s %v: %v in %s", path, query, err, answer.Data)
	}
}

// hasData reports whether the query finds a number now.
func (p prometheus) hasData(expr string) bool {
	p.t.Helper()
	var res struct {
		Result []struct {
			Value     [2]any
			Histogram []any
		}
	}
	p.get("query", url.Values{"query": {expr}}, &res)
	for _, r := range res.Result {
		if r.Histogram != nil || r.Value[1] != nil && r.Value[1] != "NaN" {
			return true
		}
	}
	return false
}

// grafanaQuery is one query of a panel.
type grafanaQuery struct{ board, panel, help, expr string }

// grafanaQueries returns the queries of all dashboards as Grafana sends them when
// everything is selected.
func grafanaQueries(t *testing.T) []grafanaQuery {
	t.Helper()
	files, err := filepath.Glob("../grafana/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	variables := strings.NewReplacer("$__rate_interval", "10s", "$job", ".*", "$instance", ".*", "$provider", ".*", "$app", ".*")
	var list []grafanaQuery
	for _, file := range files {
		var board struct {
			Title  string
			Panels []struct {
				Title, Description, Type string
				Targets                  []struct{ Expr string }
			}
		}
		if err := json.Unmarshal([]byte(readDoc(t, strings.TrimPrefix(file, "../"))), &board); err != nil {
			t.Fatal(err)
		}
		for _, p := range board.Panels {
			if p.Type != "row" && len(p.Targets) == 0 {
				t.Errorf("%s: panel %q asks for nothing", board.Title, p.Title)
			}
			for _, q := range p.Targets {
				list = append(list, grafanaQuery{board.Title, p.Title, p.Description, variables.Replace(q.Expr)})
			}
		}
	}
	return list
}

// rare is how a panel says that it may have no data.
const rare = " Empty unless "

// Every query of a panel or a rule has data in a real Prometheus that has scraped two
// sipwakes, one with a file and one with Redis, during calls.
func TestGrafanaQueriesHaveData(t *testing.T) {
	t.Parallel()
	found(t, "prometheus")
	a, b, prom := scraped(t)
	// A rate takes two scrapes. How many more a busy machine takes nobody knows.
	for round := range 20 {
		traffic(a, b, round)
		now := fmt.Sprintf("%.3f", float64(time.Now().UnixMilli())/1000)
		eventually(t, "both are scraped", func() bool { return prom.hasData(`min(timestamp(up)) > ` + now) })
		if round > 1 && !slices.ContainsFunc(grafanaQueries(t), func(q grafanaQuery) bool { return !prom.hasData(q.expr) }) {
			break
		}
	}
	for _, q := range grafanaQueries(t) {
		if !prom.hasData(q.expr) && !strings.Contains(q.help, rare) {
			t.Errorf("%s, %s: no data for %s", q.board, q.panel, q.expr)
		}
	}
	prom.checkRules()
	prom.checkExemplars(a)
	for _, r := range []*rig{a, b} {
		_, metrics := r.get("/metrics")
		promtool(t, metrics, "check", "metrics")
	}
	if !prom.hasData(`histogram_quantile(0.5, rate(sipwake_wake_seconds[1m]))`) {
		t.Error("there are no native histograms")
	}
}

// scraped returns two sipwakes and a Prometheus that has scraped both once.
func scraped(t *testing.T) (a, b *rig, prom prometheus) {
	t.Helper()
	const wake = noLimits + "\n  refresh: {every: 100ms}"
	dir := t.TempDir()
	pem := filepath.Join(dir, "other.pem")
	if err := os.WriteFile(pem, keyAndCertificate(t), 0o600); err != nil {
		t.Fatal(err)
	}
	a = newRig(t, rigOptions{operations: "  exemplars: true", wake: wake,
		apnsConfig: "  - bundle_id: org.example.other\n    certificate_file: " + pem, fcmConfig: "    breaker_failures: 2"})
	server := storetest.NewRedis(t)
	b = newRig(t, rigOptions{store: fmt.Sprintf("  type: redis\n  redis:\n    addresses: [%q]", server.Addr), wake: wake})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	p, err := stack.StartPrometheus(ctx, stack.PrometheusConfig{Folder: "../grafana", Interval: "1s",
		Targets: []string{a.app.OperationsAddr(), b.app.OperationsAddr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	prom = prometheus{t, p.URL()}
	eventually(t, "both are scraped", func() bool { return prom.hasData(`sum(up) == 2`) })
	return a, b, prom
}

// traffic makes calls that end in every way that shows in the metrics.
func traffic(a, b *rig, round int) {
	for i, r := range []*rig{a, b} {
		n := 10_000*i + 10*round
		user := func(k int) string { return fmt.Sprintf("user%d@example.com", n+k) }
		call := func(k int) string { return fmt.Sprint("graph-", n+k) }
		// Woken by APNs and FCM, silent, dead, and refused by the service.
		for k, contact := range []string{apnsContact("u", apnsToken(n)), fcmContact("u", fmt.Sprint("fcm-token-", n)),
			apnsContact("u", apnsToken(n+1)), apnsContact("u", apnsToken(n+2)), fcmContact("u", fmt.Sprint("fcm-token-bad-", n))} {
			r.asleep(user(k), contact)
			switch k {
			case 3:
				r.apns.Behave(apnsToken(n+2), apnssim.Behaviour{Status: 410, Reason: "Unregistered", Timestamp: time.Now().Add(time.Hour)})
			case 4:
				down := fcmsim.Behaviour{Status: 503, Code: "UNAVAILABLE"}
				r.fcm.Behave(fmt.Sprint("fcm-token-bad-", n), down, down, down)
			}
			r.startWake(user(k), call(k), nil)
			if k < 2 {
				eventually(r.t, "the push is accepted", func() bool {
					return r.pushes(apnsToken(n)) > 0 && (k == 0 || r.fcmPushes(fmt.Sprint("fcm-token-", n)) > 0)
				})
				r.register(user(k), contact, obj{"call_id": "back-" + call(k), "cseq": 3})
			}
			r.endWake(user(k), call(k), []string{"answered", "answered", "timeout", "failed", "cancelled"}[k])
		}
		r.startWake(user(0), call(6), obj{"kind": "chat"})
		r.endWake(user(0), call(6), "answered")
		r.send(obj{"aor": user(0), "kind": "custom", "title": "hello", "body": "world"})
		r.try("no.such.method", nil, nil)
	}
}

// checkRules looks whether every rule can be evaluated, and every series that it asks
// for is there.
func (p prometheus) checkRules() {
	p.t.Helper()
	var res struct {
		Groups []struct {
			Rules []struct{ Name, Query, Health, LastError, Type string }
		}
	}
	p.get("rules", nil, &res)
	selector := regexp.MustCompile(`(?:[a-z_]+:)?\b(?:sipwake_|process_|up\b)[\w:]*(?:\{[^}]*\})?`)
	rules := 0
	for _, g := range res.Groups {
		for _, r := range g.Rules {
			rules++
			if r.Health != "ok" {
				p.t.Errorf("rule %s: %s %s", r.Name, r.Health, r.LastError)
			}
			if r.Type == "recording" && !p.hasData(r.Name) {
				p.t.Errorf("rule %s has recorded nothing", r.Name)
			}
			asked := selector.FindAllString(r.Query, -1)
			if len(asked) == 0 {
				p.t.Errorf("rule %s asks for no series of ours: %s", r.Name, r.Query)
			}
			for _, s := range asked {
				if !p.hasData(s) {
					p.t.Errorf("rule %s: there is no series %s", r.Name, s)
				}
			}
		}
	}
	if rules < 20 {
		p.t.Errorf("Prometheus has %d rules", rules)
	}
}

// checkExemplars looks whether the time of a call can be found by the hash of its
// Call-ID, and by nothing else.
func (p prometheus) checkExemplars(r *rig) {
	p.t.Helper()
	hash := metric.Hash("call-graph-0")
	for _, name := range []string{"sipwake_wake_seconds_bucket", "sipwake_push_seconds_bucket", "sipwake_node_signal_seconds_bucket"} {
		var res []struct {
			SeriesLabels map[string]string
			Exemplars    []struct{ Labels map[string]string }
		}
		p.get("query_exemplars", url.Values{"query": {name}, "start": {fmt.Sprint(time.Now().Add(-time.Hour).Unix())}, "end": {fmt.Sprint(time.Now().Unix() + 1)}}, &res)
		var seen []string
		for _, s := range res {
			for _, e := range s.Exemplars {
				seen = append(seen, e.Labels[metric.CallHash])
				if s.SeriesLabels["instance"] != r.app.OperationsAddr() {
					p.t.Errorf("%s has exemplars where there are to be none", name)
				}
			}
		}
		if len(seen) == 0 || slices.Contains(seen, "") {
			p.t.Errorf("exemplars of %s: %q", name, seen)
		}
		if name == "sipwake_wake_seconds_bucket" && !slices.Contains(seen, hash) {
			p.t.Logf("%s is not among the exemplars %q", hash, seen) // another call may have taken the bucket
		}
	}
	req, err := http.NewRequest(http.MethodGet, "http://"+r.app.OperationsAddr()+"/metrics", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(res.Body); err != nil {
		p.t.Fatal(err)
	}
	if !strings.Contains(text.String(), `# {`+metric.CallHash+`="`) || strings.Contains(text.String(), "call-graph-") {
		p.t.Error("OpenMetrics has no exemplars, or has a Call-ID")
	}
}
