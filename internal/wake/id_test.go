package wake

import (
	"testing"

	"github.com/google/uuid"

	"github.com/sipwake/sipwake/push"
)

// The id of a wake is what every instance makes of the same request: a version 5 UUID.
func TestWakeID(t *testing.T) {
	p := StartParams{Node: "edge1", Call: "4711-99", CallID: "call@host", Kind: push.Call}
	want := uuid.NewSHA1(uuid.Nil, []byte("edge1\x004711-99\x00call@host\x00call\x00alice@example.com")).String()
	if got := wakeID("alice@example.com", p); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
