package tests

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/leak"
	"github.com/sipwake/sipwake/internal/lab/phone"
	"github.com/sipwake/sipwake/internal/lab/stack"
)

// TestGatewayAsterisk: a real Asterisk that knows nothing of push calls phones that
// sleep, cancels, and sends a message.
func TestGatewayAsterisk(t *testing.T) {
	t.Parallel()
	s := asteriskScenario(t, kamailioBefore(startAsterisk(t, 0).SIPAddress()), rigOptions{})
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

// startAsterisk starts one that has lost what an earlier one at that port knew.
func startAsterisk(t *testing.T, port int) *stack.Asterisk {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scenarioTimeout)
	defer cancel()
	passwords := map[string]string{}
	for _, u := range []string{"friend", "user1", "user2", "user3", "user4"} {
		passwords[u] = passwordOf(u)
	}
	pbx, err := stack.StartAsterisk(ctx, stack.AsteriskConfig{Address: pbxAddress, Port: port, Users: passwords})
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
	return pbx
}

func asteriskScenario(t *testing.T, kind proxyKind, o rigOptions) *scenario {
	t.Helper()
	s := table{name: "asterisk", sipwake: o, proxy: proxyConfig{Hold: 30 * time.Second}}.start(t, kind).scenario(t)
	s.every = showsPassword
	return s
}

func kamailioBefore(pbx string) proxyKind {
	kind := kamailio()
	kind.start = func(ctx context.Context, c proxyConfig) (proxy, error) {
		defines := kamailioDefines(c)
		defines["GW_PING_S"], defines["GW_FR_MS"] = "1", "1000"
		return stack.StartKamailio(ctx, stack.KamailioConfig{Node: nodeID, Secret: nodeSecret, URL: c.URL, Hold: c.Hold,
			Defines: defines, PBXs: []string{pbx}})
	}
	return kind
}

// asteriskHA1 returns an app of an Asterisk's user.
func asteriskHA1(user string) option {
	text := fmt.Sprintf("%x", md5.Sum([]byte(user+":asterisk:"+passwordOf(user))))
	leak.Secret(text)
	return header("X-PIID", text)
}

// TestGatewayAsteriskKeepsAlive: sipwake refreshes a registration at a real Asterisk. One
// that has started again and lost all gets its users while their phones sleep.
func TestGatewayAsteriskKeepsAlive(t *testing.T) {
	t.Parallel()
	pbx := startAsterisk(t, 0)
	s := asteriskScenario(t, kamailioBefore(pbx.SIPAddress()), rigOptions{more: upperSection(t, "")})
	d := s.iphone(answers, asteriskHA1(s.user))
	s.asleep(d)
	then := time.Now()
	s.call("upper.refresh", obj{"aor": s.aor()}, nil)
	s.refreshed(then)

	pbx.Stop()
	(&gatewayProxy{Kamailio: s.proxy.(*stack.Kamailio)}).misses(s)
	then = time.Now()
	startAsterisk(t, portOf(t, pbx.SIPAddress()))
	s.refreshed(then)
	friend := s.phoneOf("friend")
	s.registered(friend)
	s.callsFrom(friend, phone.InviteOptions{}).talks(d.Phone)
}

// TestOpenSIPSGatewayAsterisk: a real Asterisk behind an OpenSIPS.
func TestOpenSIPSGatewayAsterisk(t *testing.T) {
	t.Parallel()
	pbx := startAsterisk(t, 0)
	kind := openSIPS()
	kind.start = func(ctx context.Context, c proxyConfig) (proxy, error) {
		again, err := openSIPSBefore(ctx, c, pbx.SIPAddress(), nil)
		if err != nil {
			return nil, err
		}
		return again()
	}
	s := asteriskScenario(t, kind, rigOptions{more: upperSection(t, "")})
	d := s.iphone(answers, asteriskHA1(s.user))
	s.asleep(d)
	then := time.Now()
	s.call("upper.refresh", obj{"aor": s.aor()}, nil)
	s.refreshed(then)
	friend := s.phoneOf("friend")
	s.registered(friend)
	s.callsFrom(friend, phone.InviteOptions{}).talks(d.Phone)
}
