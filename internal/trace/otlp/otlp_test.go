package otlp_test

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/trace/otlp"
)

// receiver is a collector that decodes what comes.
type receiver struct {
	*httptest.Server

	mu     sync.Mutex
	status int
	spans  []*tracepb.Span
	saw    http.Header
	path   string
	names  []string // of the resources
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{status: http.StatusOK}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, err := gzip.NewReader(req.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b, _ := io.ReadAll(body)
	var in collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(b, &in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.saw, r.path = req.Header, req.URL.Path
	if r.status == http.StatusOK {
		for _, rs := range in.GetResourceSpans() {
			for _, a := range rs.GetResource().GetAttributes() {
				r.names = append(r.names, a.GetKey()+"="+a.GetValue().GetStringValue())
			}
			for _, ss := range rs.GetScopeSpans() {
				r.spans = append(r.spans, ss.GetSpans()...)
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.WriteHeader(r.status)
}

// span returns the span of that name.
func (r *receiver) span(t *testing.T, name string) *tracepb.Span {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans {
		if s.GetName() == name {
			return s
		}
	}
	t.Fatalf("no span %q of %v", name, r.spans)
	return nil
}

func attribute(s *tracepb.Span, key string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

var started = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return started.Add(time.Duration(ms) * time.Millisecond) }

func ms(s *tracepb.Span) (from, to int) {
	return int(time.Unix(0, int64(s.GetStartTimeUnixNano())).Sub(started).Milliseconds()),
		int(time.Unix(0, int64(s.GetEndTimeUnixNano())).Sub(started).Milliseconds())
}

func call() trace.Part {
	return trace.Part{Whole: true, Verdict: "rang after 1.9 s", Timeline: trace.Timeline{
		Head:    trace.Head{ID: "0193e1c4-0000-7000-8000-000000000001", AOR: "bob@example.com", Node: "sip1", CallID: "call-1", Kind: "call", StartedAt: started},
		Outcome: "pushing", Reason: "answered", Instance: "one",
		Events: []trace.Event{
			{At: at(0), Name: trace.Held, Detail: "sip1"},
			{At: at(1), Name: trace.Pushing, Device: "a", Provider: "apns", App: "com.example.phone"},
			{At: at(2), Name: trace.Pushing, Device: "b", Provider: "fcm"},
			{At: at(250), Name: trace.Accepted, Device: "a", Provider: "apns", App: "com.example.phone", ID: "8E4F", Tries: 1, SentAt: at(10)},
			{At: at(900), Name: trace.Failed, Device: "b", Provider: "fcm", Detail: "unavailable: 503", Tries: 2},
			{At: at(1880), Name: trace.Registered, Device: "a"},
			{At: at(1900), Name: trace.Signalled, Device: "a", Detail: "added"},
			{At: at(4000), Name: trace.Ended, Detail: "answered", Code: 200},
		}}}
}

func export(t *testing.T, c otlp.Config, parts ...trace.Part) (lost int, err error) {
	t.Helper()
	c.SetDefaults()
	e, err := otlp.New(c, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	lost, err = e.Export(ctx, parts)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	return lost, err
}

// A call is a span, with one below it for each push and signal, at their own times.
func TestSpansOfACall(t *testing.T) {
	r := newReceiver(t)
	c := otlp.Config{Endpoint: r.URL, Headers: map[string]secret.Text{"authorization": secret.NewText("Bearer abc")}}
	if lost, err := export(t, c, call()); lost > 0 || err != nil {
		t.Fatal(lost, err)
	}
	if r.path != "/v1/traces" || r.saw.Get("Authorization") != "Bearer abc" {
		t.Errorf("sent to %s with %v", r.path, r.saw)
	}
	if got := strings.Join(r.names, " "); !strings.Contains(got, "service.name=sipwake") || !strings.Contains(got, "service.version=1.2.3") {
		t.Errorf("the resource is %s", got)
	}
	if len(r.spans) != 4 {
		t.Fatalf("%d spans", len(r.spans))
	}
	root := r.span(t, "wake call")
	if from, to := ms(root); from != 0 || to != 4000 || len(root.GetParentSpanId()) > 0 || root.GetKind() != tracepb.Span_SPAN_KIND_SERVER {
		t.Errorf("the call is %v", root)
	}
	for key, want := range map[string]string{"sip.call_id": "call-1", "sipwake.aor": "bob@example.com", "sipwake.reason": "answered",
		"sipwake.outcome": "pushing", "sipwake.verdict": "rang after 1.9 s"} {
		if got := attribute(root, key); got != want {
			t.Errorf("%s of the call is %q", key, got)
		}
	}
	for _, want := range []struct {
		name     string
		from, to int
		failed   bool
	}{{"push apns", 1, 250, false}, {"push fcm", 2, 900, true}, {"signal sip1", 1880, 1900, false}} {
		s := r.span(t, want.name)
		from, to := ms(s)
		if from != want.from || to != want.to || string(s.GetParentSpanId()) != string(root.GetSpanId()) || string(s.GetTraceId()) != string(root.GetTraceId()) ||
			(s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR) != want.failed || attribute(s, "sip.call_id") != "call-1" {
			t.Errorf("%s is %v", want.name, s)
		}
	}
	if s := r.span(t, "push apns"); attribute(s, "sipwake.push.id") != "8E4F" || len(s.GetEvents()) != 1 {
		t.Errorf("the push is %v", s)
	}
}

// What another instance saw, or what came later, belongs to the same trace.
func TestPartsAreOneTrace(t *testing.T) {
	r := newReceiver(t)
	other := call()
	other.Whole, other.Instance, other.Events = false, "two", other.Events[5:7]
	if _, err := export(t, otlp.Config{Endpoint: r.URL}, call(), other); err != nil {
		t.Fatal(err)
	}
	root, ids := r.span(t, "wake call"), map[string]bool{}
	for _, s := range r.spans {
		if string(s.GetTraceId()) != string(root.GetTraceId()) || s != root && string(s.GetParentSpanId()) != string(root.GetSpanId()) {
			t.Errorf("not below the call: %v", s)
		}
		ids[string(s.GetSpanId())] = true
	}
	if len(r.spans) != 5 || len(ids) != 5 {
		t.Errorf("%d spans with %d ids", len(r.spans), len(ids))
	}
}

// The call is part of the trace that its sender names, and follows its sampling;
// what is no trace context is passed over.
func TestTraceParent(t *testing.T) {
	const traceID, spanID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	f := func(parent string, spans int, want bool) {
		t.Helper()
		r := newReceiver(t)
		p := call()
		p.Parent = parent
		if _, err := export(t, otlp.Config{Endpoint: r.URL}, p); err != nil {
			t.Fatal(err)
		}
		if len(r.spans) != spans {
			t.Fatalf("%q: %d spans", parent, len(r.spans))
		}
		if spans == 0 {
			return
		}
		root := r.span(t, "wake call")
		if got := hex.EncodeToString(root.GetTraceId()) == traceID && hex.EncodeToString(root.GetParentSpanId()) == spanID; got != want {
			t.Errorf("%q: the call is %v", parent, root)
		}
	}
	f("00-"+traceID+"-"+spanID+"-01", 4, true)
	f("00-"+traceID+"-"+spanID+"-00", 0, false)
	f("00-"+strings.Repeat("0", 32)+"-"+spanID+"-01", 4, false)
	f("nonsense", 4, false)
}

// A share of the calls is sent, each whole.
func TestSampling(t *testing.T) {
	r := newReceiver(t)
	parts := make([]trace.Part, 400)
	for i := range parts {
		parts[i] = call()
		parts[i].ID = strings.Repeat("0", 8) + "-0000-4000-8000-" + hex.EncodeToString([]byte{byte(i >> 8), byte(i), 0, 0, 0, 0})
		parts[i].Whole = i%2 == 0 // of every second one another instance has the rest
	}
	if _, err := export(t, otlp.Config{Endpoint: r.URL, SampleRatio: 0.25}, parts...); err != nil {
		t.Fatal(err)
	}
	if n := len(r.spans); n < 400*35/10*15/100 || n > 400*35/10*35/100 {
		t.Errorf("%d spans of %d", n, 400*35/10)
	}
}

// A collector that refuses or is not there costs the spans, and no error holds a
// header.
func TestCollectorThatFails(t *testing.T) {
	r := newReceiver(t)
	r.status = http.StatusForbidden
	absent := httptest.NewServer(http.NotFoundHandler())
	absent.Close()
	for _, endpoint := range []string{r.URL + "/custom", absent.URL} {
		c := otlp.Config{Endpoint: endpoint, Headers: map[string]secret.Text{"api-key": secret.NewText("top-secret")}}
		lost, err := export(t, c, call(), call())
		if lost != 2 || err == nil || strings.Contains(err.Error(), "top-secret") {
			t.Errorf("%s: %d lost, %v", endpoint, lost, err)
		}
	}
	if r.path != "/custom" {
		t.Errorf("sent to %s", r.path)
	}
}

func TestConfig(t *testing.T) {
	f := func(c otlp.Config, want string) {
		t.Helper()
		c.SetDefaults()
		got := ""
		c.Validate(func(field, _ string) { got += field + " " })
		if strings.TrimSpace(got) != want {
			t.Errorf("%+v: problems of %q, want %q", c, got, want)
		}
	}
	f(otlp.Config{}, "")
	f(otlp.Config{Endpoint: "https://otel.example.com:4318/v1/traces", CAFile: "ca.pem"}, "")
	f(otlp.Config{Endpoint: "127.0.0.1:4318"}, "endpoint")
	f(otlp.Config{Endpoint: "http://user:pass@127.0.0.1:4318"}, "endpoint")
	f(otlp.Config{Endpoint: "http://127.0.0.1:4318", CAFile: "ca.pem"}, "endpoint")
	f(otlp.Config{SampleRatio: 1.5}, "sample_ratio")
	f(otlp.Config{SampleRatio: -1}, "sample_ratio")
	f(otlp.Config{CertFile: "a"}, "cert_file")
	f(otlp.Config{Headers: map[string]secret.Text{"a b": {}}}, "headers")
	f(otlp.Config{Headers: map[string]secret.Text{"a": secret.NewText("b\nc")}}, "headers.a")
}
