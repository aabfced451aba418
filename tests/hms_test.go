package tests

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/lab/hmssim"
)

const huaweiClient = "101234567"

// newHuawei starts a simulated Push Kit and a sipwake with an app there.
func newHuawei(t *testing.T) (*hmssim.Server, *rig) {
	t.Helper()
	s, err := hmssim.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	dir := t.TempDir()
	file, err := s.MakeClient(dir, huaweiClient)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := s.WriteCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	more := fmt.Sprintf("hms:\n  - {client_id: %q, client_secret_file: %q, packages: [com.example.phone], endpoint: %s, token_url: %s, ca_file: %q}\n",
		huaweiClient, file, s.URL(), s.TokenURL(), ca)
	return s, newRig(t, rigOptions{more: more, wake: "  remove: {rejected: 2}"})
}

func huaweiContact(user, app, token string) string {
	return fmt.Sprintf("<sip:%s@192.0.2.9:5070;pn-provider=hms;pn-param=%s;pn-prid=%s>", user, app, token)
}

// A phone with HMS Core is woken for a call, hears that it is over, and shows a message;
// a token that Huawei refuses again and again ends its binding.
func TestHuawei(t *testing.T) {
	t.Parallel()
	s, r := newHuawei(t)
	r.asleep("bob@example.com", huaweiContact("bob", "com.example.phone", "IQAAAA-token-of-bob-0001"))
	r.startWake("bob@example.com", "1-1", nil)
	eventually(t, "the push", func() bool { return len(s.Pushes()) == 1 })
	p := s.Pushes()[0]
	var data map[string]string
	if err := json.Unmarshal([]byte(p.Message.Data), &data); err != nil || data["nfrom"] != "alice" || data["ncallid"] != "call-1-1" {
		t.Errorf("data %s: %v", p.Message.Data, err)
	}
	if p.Code != "80000000" || p.Message.Android.Urgency != "HIGH" || p.Message.Android.Category != "VOIP" {
		t.Errorf("%s %+v", p.Code, p.Message.Android)
	}
	r.register("bob@example.com", huaweiContact("bob", "com.example.phone", "IQAAAA-token-of-bob-0001"), obj{"cseq": 3, "call_id": "awake"})
	r.node.waitFor(t, "wake", "1-1")

	const dead = "IQAAAA-token-of-carol-01"
	r.asleep("carol@example.com", huaweiContact("carol", huaweiClient, dead))
	s.Behave(dead, hmssim.Behaviour{Code: "80300007"})
	r.startWake("carol@example.com", "2-2", nil)
	r.node.waitFor(t, "give_up", "2-2")
	if n := r.bindings("carol@example.com"); n != 1 {
		t.Errorf("%d bindings after one refusal", n)
	}
	r.startWake("carol@example.com", "2-3", nil)
	eventually(t, "the refused token's binding is gone", func() bool { return r.bindings("carol@example.com") == 0 })
	if _, text := r.get("/metrics"); !strings.Contains(text, `sipwake_push_total{app="101234567",kind="call",provider="hms",reason="token_bad"} 2`) {
		t.Error("the figures lack the refused pushes")
	}
}
