package phone_test

import (
	"errors"
	"testing"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// Requests inside a call: each has its answer, and the call goes on.
func TestInsideTheDialog(t *testing.T) {
	eachTransport(t, func(t *testing.T, set func(*phone.Config)) {
		ctx, r := bound(t), newRelay(t)
		_, bob, c := callMe(t, r, set, phone.Answer(0))
		final(t, c, 200)
		must(bob.WaitInvite(ctx))(t)
		if m := must(c.Request(ctx, "INFO"))(t); m.Code() != 200 || m.Method() != "INFO" {
			t.Errorf("INFO got %d for %s", m.Code(), m.Method())
		}
		bob.SetBehaviour(phone.Reject(488, 0))
		final(t, must(c.Reinvite(ctx))(t), 488)
		bob.SetBehaviour(phone.Answer(0))
		must(bob.WaitInvite(ctx))(t)
		final(t, must(c.Reinvite(ctx))(t), 200)
		in := must(bob.WaitInvite(ctx))(t)
		if err := in.Acked(ctx); err != nil {
			t.Fatal(err)
		}
		if in.Request.CallID() != c.CallID() {
			t.Errorf("re-INVITE of another call: %s", in.Request.Raw)
		}
		if m := must(c.Bye(ctx))(t); m.Code() != 200 {
			t.Errorf("BYE got %d", m.Code())
		}
		must(bob.WaitBye(ctx))(t)
	})
}

func TestInsideNoDialog(t *testing.T) {
	ctx, r := bound(t), newRelay(t)
	_, _, c := callMe(t, r, func(*phone.Config) {}, phone.Reject(486, 0))
	final(t, c, 486)
	if _, err := c.Request(ctx, "INFO"); !errors.Is(err, phone.ErrNotUp) {
		t.Errorf("INFO without a dialog: %v", err)
	}
	if _, err := c.Reinvite(ctx); !errors.Is(err, phone.ErrNotUp) {
		t.Errorf("re-INVITE without a dialog: %v", err)
	}
}
