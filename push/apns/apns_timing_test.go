package apns_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"testing"
	"time"

	"github.com/sideshow/apns2"
	apnstoken "github.com/sideshow/apns2/token"
	"golang.org/x/net/http2"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/push"
)

// parallel is how many pushes each processor has under way, as a busy
// dispatcher would.
const parallel = 64

// BenchmarkBareClient is what apns2 does without any of ours.
func BenchmarkBareClient(b *testing.B) {
	sim, c := start(b, apnssim.Options{Record: -1})
	key, err := apnstoken.AuthKeyFromFile(c.KeyFile)
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(sim.CA())
	transport := &http2.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}} //nolint:staticcheck // as apns2 does
	defer transport.CloseIdleConnections()                                      //nolint:staticcheck // see above
	bare := &apns2.Client{
		Host:       sim.URL(),
		Token:      &apnstoken.Token{AuthKey: key, KeyID: keyID, TeamID: team},
		HTTPClient: &http.Client{Transport: transport},
	}
	n := call(1)
	run(b, func(ctx context.Context) bool {
		r, err := bare.PushWithContext(ctx, &apns2.Notification{
			DeviceToken: token(1), Topic: bundle + ".voip", PushType: apns2.PushTypeVOIP, Priority: apns2.PriorityHigh,
			Expiration: n.Deadline, Payload: n.Payload,
		})
		return err == nil && r.Sent()
	})
}

// BenchmarkProvider is the same push by our Provider.
func BenchmarkProvider(b *testing.B) {
	_, c := start(b, apnssim.Options{Record: -1})
	p := client(b, c)
	n := call(1)
	run(b, func(ctx context.Context) bool { return p.Push(ctx, n).Reason == push.Accepted })
}

func run(b *testing.B, pushOne func(context.Context) bool) {
	b.Helper()
	if !pushOne(context.Background()) {
		b.Fatal("the first push was not accepted")
	}
	b.SetParallelism(parallel)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			if !pushOne(ctx) {
				b.Error("a push was not accepted")
			}
			cancel()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pushes/s")
}
