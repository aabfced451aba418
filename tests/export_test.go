package tests

import (
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// captureServer receives HEP3 over UDP.
type captureServer struct {
	net.PacketConn

	mu     sync.Mutex
	events map[string]map[string]string // by Call-ID and event: source and target
	raw    strings.Builder
}

func newCaptureServer(t *testing.T) *captureServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &captureServer{PacketConn: conn, events: map[string]map[string]string{}}
	var receiving sync.WaitGroup
	receiving.Go(func() {
		b := make([]byte, 1<<16)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			s.take(b[:n])
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		receiving.Wait()
	})
	return s
}

// take notes one packet: "HEP3", its length, and chunks of vendor, type, length and
// content.
func (s *captureServer) take(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw.Write(b)
	chunks := map[int][]byte{}
	for rest := b[6:]; len(rest) >= 6; {
		size := int(rest[4])<<8 | int(rest[5])
		chunks[int(rest[2])<<8|int(rest[3])] = rest[6:size]
		rest = rest[size:]
	}
	var payload struct{ Event, Provider string }
	if chunks[0x0b][0] != 100 || json.Unmarshal(chunks[0x0f], &payload) != nil {
		return
	}
	id := string(chunks[0x11])
	if s.events[id] == nil {
		s.events[id] = map[string]string{}
	}
	s.events[id][payload.Event] = net.IP(chunks[3]).String() + " " + net.IP(chunks[4]).String()
}

// has reports whether all these events of a call have come.
func (s *captureServer) has(callID string, events ...string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		if s.events[callID][e] == "" {
			return false
		}
	}
	return true
}

// A call through a real proxy is at the capture server, event by event, under its
// Call-ID, and no token is.
func TestHomerHasTheCall(t *testing.T) {
	t.Parallel()
	s := newCaptureServer(t)
	onEveryProxy(t, table{name: "homer", sipwake: rigOptions{more: "homer: {address: \"" + s.LocalAddr().String() + "\"}"},
		proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: scenarios{
			"a sleeping phone is woken": func(sc *scenario) {
				d := sc.iphone(tcp, answers) // over UDP it may answer the INVITE that Kamailio repeats before it has registered
				sc.asleep(d)
				c := sc.calls()
				c.talks(d.Phone)
				c.over("answered")
				eventually(sc.t, "the call is there", func() bool {
					return s.has(c.CallID(), "held", "pushing", "accepted", "registered", "signalled", "ended", "verdict")
				})
			},
		}})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range []string{"pn-prid", "pn-param", nodeSecret} {
		if strings.Contains(s.raw.String(), secret) {
			t.Errorf("%s is in what was sent", secret)
		}
	}
}

// A call is a trace at the collector, below that of the proxy's request.
func TestCollectorHasTheCall(t *testing.T) {
	t.Parallel()
	const traceID, spanID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	var mu sync.Mutex
	spans := map[string]*tracepb.Span{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := gzip.NewReader(req.Body)
		if err != nil {
			return
		}
		b, _ := io.ReadAll(body)
		var in collector.ExportTraceServiceRequest
		if proto.Unmarshal(b, &in) != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range in.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					spans[s.GetName()] = s
				}
			}
		}
	}))
	defer server.Close()
	r := newRig(t, rigOptions{more: "otlp: {endpoint: \"" + server.URL + "\"}"})
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	req, err := http.NewRequest(http.MethodPost, r.url, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"wake.start","params":
		{"node":"`+nodeID+`","aor":"bob@example.com","call_id":"call-1-1","call":"1-1","kind":"call"}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("traceparent", "00-"+traceID+"-"+spanID+"-01")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	r.pushed(apnsToken(1), 1)
	r.endWake("bob@example.com", "1-1", "cancelled")
	eventually(t, "the call and its push are there", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return spans["wake call"] != nil && spans["push apns"] != nil
	})
	mu.Lock()
	defer mu.Unlock()
	call, push := spans["wake call"], spans["push apns"]
	if hex.EncodeToString(call.GetTraceId()) != traceID || hex.EncodeToString(call.GetParentSpanId()) != spanID ||
		string(push.GetParentSpanId()) != string(call.GetSpanId()) || strings.Contains(call.String()+push.String(), apnsToken(1)) {
		t.Errorf("the call is %v, the push %v", call, push)
	}
}
