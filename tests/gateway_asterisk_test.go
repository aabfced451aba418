package tests

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sipwake/sipwake/cmd/sipwake-lab/phone"
	"github.com/sipwake/sipwake/cmd/sipwake-lab/stack"
)

// TestGatewayAsterisk: a real Asterisk that knows nothing of push calls phones that
// sleep, cancels, and sends a message.
func TestGatewayAsterisk(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	users := []string{"friend", "user1", "user2", "user3", "user4"}
	passwords := map[string]string{}
	for _, u := range users {
		passwords[u] = passwordOf(u)
	}
	pbx, err := stack.StartAsterisk(ctx, stack.AsteriskConfig{Address: pbxAddress, Users: passwords})
	if errors.Is(err, stack.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(pbx.LogTail())
		}
		pbx.Stop()
	})
	kind := kamailio()
	kind.start = func(ctx context.Context, c proxyConfig) (proxy, error) {
		return stack.StartKamailio(ctx, stack.KamailioConfig{Node: nodeID, Secret: nodeSecret, URL: c.URL, Hold: c.Hold,
			Defines: kamailioDefines(c), PBXs: []string{pbx.SIPAddress()}})
	}
	s := table{name: "asterisk", proxy: proxyConfig{Hold: 30 * time.Second}}.start(t, kind).scenario(t)
	s.every = showsPassword
	friend := s.phoneOf("friend")
	s.registered(friend)

	d := s.iphone(answers)
	s.asleep(d)
	answered := must(friend.Invite(s.ctx, s.user, phone.InviteOptions{}))(s)
	if res := must(answered.Final(s.ctx))(s); res.Code != 200 {
		t.Fatalf("the caller got %d", res.Code)
	}
	in := must(d.WaitInvite(s.ctx))(s)
	if err := in.Acked(s.ctx); err != nil {
		t.Fatal(err)
	}
	if m := must(answered.Bye(s.ctx))(s); m.Code() != 200 {
		t.Errorf("BYE got %d", m.Code())
	}
	must(d.Next(s.ctx, phone.GotBye))(s)

	s.nextUser()
	e := s.iphone(stubborn)
	s.asleep(e)
	cancelled := must(friend.Invite(s.ctx, s.user, phone.InviteOptions{}))(s)
	s.pushed(e)
	must(cancelled.Cancel(s.ctx))(s)
	if res := must(cancelled.Final(s.ctx))(s); res.Code != 487 {
		t.Errorf("the caller who hung up got %d", res.Code)
	}
	s.rung(e.Phone, 0)

	s.nextUser()
	a := s.android()
	s.asleep(a)
	if m := must(friend.Message(s.ctx, s.user, "hello"))(s); m.Code() != 202 && m.Code() != 200 {
		t.Errorf("MESSAGE got %d", m.Code())
	}
	if m := must(a.Next(s.ctx, phone.GotMessage))(s); string(m.Message.Body()) != "hello" {
		t.Errorf("the phone got %q", m.Message.Body())
	}

	s.nextUser()
	dead := s.iphone()
	s.dead(dead)
	s.asleep(dead)
	if res := must(must(friend.Invite(s.ctx, s.user, phone.InviteOptions{}))(s).Final(s.ctx))(s); res.Code < 480 || res.After > 15*time.Second {
		t.Errorf("the token is dead, and the caller got %d after %s", res.Code, res.After)
	}
}
