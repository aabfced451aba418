//go:build !race

package push_test

import (
	"context"
	"testing"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

// TestAllocations holds what a push costs until it is with its provider, and after it.
func TestAllocations(t *testing.T) {
	f := func(what string, most float64, do func()) {
		t.Helper()
		if n := testing.AllocsPerRun(200, do); n > most {
			t.Errorf("%s: %v allocations, %v are allowed", what, n, most)
		}
	}
	r := aCall
	r.Service, r.Values.Data = pnparam.VoIP, nil
	templates := push.DefaultTemplates(pnparam.APNs)
	buf, err := templates.Payload(nil, &r, 4096)
	if err != nil {
		t.Fatal(err)
	}
	f("a template", 1, func() { buf, _ = templates.Payload(buf[:0], &r, 4096) })

	d := benchDispatcher(t, answers(push.Accepted))
	req := benchRequest()
	done := make(chan struct{})
	f("a push through the dispatcher", 9, func() {
		d.Push(context.Background(), req, func(push.Outcome) { done <- struct{}{} })
		<-done
	})
}
