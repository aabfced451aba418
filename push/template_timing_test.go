package push_test

import (
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

func benchPayload(b *testing.B, r push.Request) {
	templates := push.DefaultTemplates(pnparam.APNs)
	buf, err := templates.Payload(nil, &r, 4096)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var buf []byte
		for pb.Next() {
			buf, _ = templates.Payload(buf[:0], &r, 4096)
		}
	})
}

func BenchmarkPayload(b *testing.B) {
	r := aCall
	r.Service = pnparam.VoIP
	r.Values.Data = nil
	benchPayload(b, r)
}

// BenchmarkPayloadCut is the slow way: a text that does not fit.
func BenchmarkPayloadCut(b *testing.B) {
	r := aCall
	r.Kind, r.Service = push.Chat, pnparam.Remote
	r.Values.Body = strings.Repeat("Hello, world! ", 1000)
	benchPayload(b, r)
}
