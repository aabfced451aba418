//go:build !race

package apns

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/h2"
)

// accepting is a connection on which every push is accepted.
type accepting struct{}

func (accepting) Do(_ context.Context, _ *h2.Request, resp *h2.Response) error {
	resp.Status = 200
	return nil
}
func (accepting) Err() error   { return nil }
func (accepting) Close() error { return nil }

// TestAllocations holds what a push costs above its connection.
func TestAllocations(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &Provider{host: "api.example", topic: "com.example", voip: "com.example.voip", signer: newSigner(key, "TEAM123456", "KEY1234567", new(push.Skew)),
		answers: push.NewAnswers(Answers()),
		lanes:   &lanes{all: []*lane{{open: func(context.Context) (clientConn, error) { return accepting{}, nil }}}}}
	n := &push.Notification{Kind: push.Call, Service: pnparam.VoIP, Token: secret.NewToken("0123456789abcdef0123456789abcdef"),
		Payload: []byte(`{"aps":{}}`), Deadline: time.Now().Add(time.Minute)}
	got := testing.AllocsPerRun(500, func() {
		if r := p.Push(context.Background(), n); r.Reason != push.Accepted {
			t.Fatal(r)
		}
	})
	if most := 2.0; got > most {
		t.Errorf("%v allocations a push, %v are allowed", got, most)
	}
}
