package tests

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/lab/labca"
)

// What was asked for, row by row, where no other test shows it from outside.
// features.txt names the tests of every row.

// bound registers a phone, which goes to sleep, and checks that it is bound.
func (r *rig) bound(aor, contact string, headers obj) {
	r.t.Helper()
	over := obj{"headers": headers, "call_id": fmt.Sprint("bound ", contact, headers), "cseq": 1}
	if res := r.register(aor, contact, over); res.Status != "stored" {
		r.t.Fatalf("%s %s: %+v", contact, headers, res)
	}
	over["cseq"], over["expires"] = 2, 0
	r.register(aor, contact, over)
}

// fcmPushes counts the pushes that the simulated FCM took for a token.
func (r *rig) fcmPushes(token string) (n int) {
	for _, p := range r.fcm.Pushes() {
		if p.Token.Reveal() == token && p.Status == 200 {
			n++
		}
	}
	return n
}

// editConfig changes the configuration file and makes sipwake read it.
func (r *rig) editConfig(old, new string) {
	r.t.Helper()
	text, err := os.ReadFile(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	if strings.Count(string(text), old) != 1 {
		r.t.Fatalf("%q is not there once in %s", old, text)
	}
	r.write("sipwake.yml", strings.Replace(string(text), old, new, 1))
	r.reload()
}

// R1: X-MPUSH of each letter and prefix reaches the right service.
func TestFeatureR1MPUSH(t *testing.T) {
	t.Parallel()
	ca, err := labca.New("both environments")
	if err != nil {
		t.Fatal(err)
	}
	sandbox, err := apnssim.Start(apnssim.Options{CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	defer sandbox.Close()
	r := newRig(t, rigOptions{apns: apnssim.Options{CA: ca}})
	sandbox.AddKey(team, "KEY1234567", publicKey(t, filepath.Join(r.dir, "AuthKey_KEY1234567.p8")))
	r.editConfig("sandbox_endpoint: "+r.apns.URL(), "sandbox_endpoint: "+sandbox.URL())

	inSandbox := func(token string) (n int) {
		for _, p := range sandbox.Pushes() {
			if p.Token.Reveal() == token && p.Status == 200 {
				n++
			}
		}
		return n
	}
	for i, c := range []struct {
		value, token string
		count        func(token string) int
	}{
		{"a:org.example.phone:dev1:APA91b:with:colons", "dev1:APA91b:with:colons", r.fcmPushes},
		{"j:org.example.phone:dev2:APA91b-iphone", "dev2:APA91b-iphone", r.fcmPushes},
		{"i:" + bundle + ":" + apnsToken(1), apnsToken(1), r.pushes},
		{"d:i:" + bundle + ":" + apnsToken(2), apnsToken(2), r.pushes},
		{"p:i:" + bundle + ":" + apnsToken(3), apnsToken(3), r.pushes},
		{"s:i:" + bundle + ":" + apnsToken(4), apnsToken(4), inSandbox},
	} {
		user := fmt.Sprintf("user%d@example.com", i)
		r.bound(user, fmt.Sprintf("<sip:user%d@192.0.2.9>", i), obj{"X-MPUSH": c.value})
		r.startWake(user, fmt.Sprint(i, "-1"), nil)
		eventually(t, c.value, func() bool { return c.count(c.token) == 1 })
	}
	if a, b := len(r.apns.Pushes()), len(sandbox.Pushes()); a != 3 || b != 1 {
		t.Errorf("%d pushes in production, %d in the sandbox; want 3 and 1", a, b)
	}
}

func publicKey(t *testing.T, p8 string) *ecdsa.PublicKey {
	t.Helper()
	text, err := os.ReadFile(p8)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &key.(*ecdsa.PrivateKey).PublicKey
}

// R2, R3: phones that speak RFC 8599 or what came before it are bound and pushed.
func TestFeatureR3Dialects(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	for i, params := range []string{
		"pn-provider=fcm;pn-param=example-phone;pn-prid=%s",
		"push-token-type=a;push-token-app=org.example.phone;push-token-id=%s",
		"pn-type=firebase;app-id=org.example.phone;pn-tok=%s",
	} {
		user, token := fmt.Sprintf("user%d@example.com", i), fmt.Sprintf("fcm-token-dialect-%d", i)
		r.bound(user, fmt.Sprintf("<sip:user%d@192.0.2.9;%s>", i, fmt.Sprintf(params, token)), nil)
		if res := r.startWake(user, fmt.Sprint(i, "-1"), nil); res.Outcome != "pushing" {
			t.Errorf("%s: %+v", params, res)
		}
		eventually(t, params, func() bool { return r.fcmPushes(token) == 1 })
	}
}

// R5: both ways to unbind.
func TestFeatureR5Unbind(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.bound("bob@example.com", "<sip:bob@192.0.2.9>", obj{"X-MPUSH": "a:org.example.phone:fcm-token-bob-1"})
	r.register("bob@example.com", "<sip:bob@192.0.2.9>", obj{"headers": obj{"X-MPUSH": "null"}, "call_id": "off"})
	if n := r.bindings("bob@example.com"); n != 0 {
		t.Errorf("X-MPUSH: null leaves %d bindings", n)
	}
	instance := `;+sip.instance="<urn:uuid:00000000-0000-4000-8000-000000000001>"`
	r.bound("carol@example.com", fcmContact("carol", "fcm-token-carol")+instance, nil)
	r.register("carol@example.com", fcmContact("carol", "null")+instance, obj{"call_id": "off"})
	if n := r.bindings("carol@example.com"); n != 0 {
		t.Errorf("pn-prid=null leaves %d bindings", n)
	}
}

// R4: X-Push, and its permissions.
func TestFeatureR4XPush(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	for i, c := range []struct{ calls, messages bool }{{true, true}, {true, false}, {false, true}} {
		user, token := fmt.Sprintf("user%d@example.com", i), fmt.Sprintf("fcm-token-xpush-%d", i)
		r.bound(user, fmt.Sprintf("<sip:user%d@192.0.2.9>", i), obj{"X-Push": fmt.Sprintf(
			"device-os=android;device-uid=%s;allow-call-push=%v;allow-message-push=%v;app-id=org.example.phone", token, c.calls, c.messages)})
		want := map[bool]string{true: "pushing", false: "none"}
		if res := r.startWake(user, fmt.Sprint(i, "-1"), nil); res.Outcome != want[c.calls] {
			t.Errorf("%+v: a call is %+v", c, res)
		}
		if res := r.startWake(user, fmt.Sprint(i, "-2"), obj{"kind": "chat", "body": "hi"}); res.Outcome != want[c.messages] {
			t.Errorf("%+v: a message is %+v", c, res)
		}
	}
}

// R8: many apps, many devices of a user, one of them on WebSocket: all are pushed
// for a call, and each that comes back is signalled.
func TestFeatureR8ManyDevices(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.editConfig("\nfcm:\n", fmt.Sprintf("\n  - bundle_id: org.example.other\n    team_id: %s\n    key_id: KEY1234567\n    key_file: %s\n"+
		"    endpoint: %s\n    ca_file: %s\nfcm:\n", team, filepath.Join(r.dir, "AuthKey_KEY1234567.p8"), r.apns.URL(), filepath.Join(r.dir, "apns-ca.pem")))
	contacts := []string{
		apnsContact("bob", apnsToken(1)),
		apnsContact("bob", apnsToken(2)),
		strings.Replace(apnsContact("bob", apnsToken(3)), bundle, "org.example.other", 1),
		strings.Replace(fcmContact("bob", "fcm-token-bob-1"), "192.0.2.8:5070", "x7k2.invalid;transport=ws", 1),
	}
	for _, c := range contacts {
		r.bound("bob@example.com", c, nil)
	}
	if res := r.startWake("bob@example.com", "1-1", nil); res.Devices != len(contacts) {
		t.Fatalf("wake.start: %+v", res)
	}
	for n := 1; n <= 3; n++ {
		r.pushed(apnsToken(n), 1)
	}
	eventually(t, "FCM push", func() bool { return r.fcmPushes("fcm-token-bob-1") == 1 })
	for i, c := range contacts {
		r.register("bob@example.com", c, obj{"call_id": fmt.Sprint("back ", i), "source": "wss:192.0.2.8:443"})
	}
	eventually(t, "a signal for each device", func() bool {
		seen := map[string]bool{}
		for _, s := range r.node.seen("wake", "1-1") {
			seen[s.Params.Contact] = true
		}
		return len(seen) == len(contacts)
	})
	topics := map[string]int{}
	for _, p := range r.apns.Pushes() {
		topics[p.Topic]++
	}
	if topics[bundle+".voip"] != 2 || topics["org.example.other.voip"] != 1 {
		t.Errorf("topics: %v", topics)
	}
}

// P1: each kind reaches the phone with its number.
func TestFeatureP1Kinds(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	r.startWake("bob@example.com", "1-1", nil)
	eventually(t, "call", func() bool { return r.fcmKinds("0") == 1 && strings.Contains(r.trace("bob@example.com"), "accepted") })
	r.endWake("bob@example.com", "1-1", "cancelled")
	eventually(t, "cancel", func() bool { return r.fcmKinds("2") == 1 })
	r.startWake("bob@example.com", "2-2", obj{"kind": "chat", "body": "hello"})
	eventually(t, "chat", func() bool { return r.fcmKinds("1") == 1 })
	r.send(obj{"aor": "bob@example.com", "kind": "custom", "title": "t", "body": "b"})
	eventually(t, "custom", func() bool { return r.fcmKinds("3") == 1 })
	r.send(obj{"aor": "bob@example.com", "kind": "refresh"})
	eventually(t, "refresh", func() bool { return r.fcmKinds("4") == 1 })
}

// P7: every keyword of a template, and the sound of the kind.
func TestFeatureP7Keywords(t *testing.T) {
	t.Parallel()
	words := []string{"PACKAGE", "TOKEN", "TO", "TYPE", "TOUSERNAME", "FROM", "FROMUSERNAME", "FROMURI", "FROMDISPLAYNAME", "CALLID", "PRIORITY",
		"NPRIORITY", "APRIORITY", "TTLNUM", "PUSHTYPE", "SOUND", "MSG", "MESSAGE", "TITLE", "BODY"}
	template := map[string]any{"aps": obj{"alert": "x"}}
	for _, w := range words {
		template[w] = "<{" + w + "}>"
	}
	text, err := json.Marshal(template)
	if err != nil {
		t.Fatal(err)
	}
	file := writeTemp(t, string(text))
	r := newRig(t, rigOptions{apnsConfig: "    templates: {chat: " + file + "}\n    sounds: {chat: ping.caf}\n    ttl: {chat: 90s}"})
	r.asleep("bob@example.com", twoTokens("bob", apnsToken(1), apnsToken(2)))
	r.startWake("bob@example.com", "1-1", obj{"kind": "chat", "body": `say "hi"`, "display": "Ann <b>"})
	r.pushed(apnsToken(2), 1)
	var got map[string]any
	if err := json.Unmarshal(r.apns.Pushes()[0].Payload, &got); err != nil {
		t.Fatal(err)
	}
	for word, want := range map[string]string{
		"PACKAGE": bundle, "TOKEN": apnsToken(2), "TO": "bob@example.com", "TYPE": "1", "TOUSERNAME": "bob", "FROM": "alice",
		"FROMURI": "sip:alice@example.com", "FROMUSERNAME": "alice", "FROMDISPLAYNAME": "Ann <b>", "CALLID": "call-1-1", "PRIORITY": "high", "NPRIORITY": "PRIORITY_HIGH",
		"APRIORITY": "10", "TTLNUM": "90", "PUSHTYPE": "alert", "SOUND": "ping.caf", "MSG": `say "hi"`, "MESSAGE": `say "hi"`,
		"TITLE": "Ann <b>", "BODY": `say "hi"`,
	} {
		if text := fmt.Sprint(got[word]); text != "<"+want+">" && (word != "TTLNUM" || text != "<89>") {
			t.Errorf("{%s} is %s, want <%s>", word, text, want)
		}
	}
}

// P8: what CallKit needs, the same for a device in every push of a call, and the
// data keys of the default payload.
func TestFeatureP8CallKit(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	r.startWake("bob@example.com", "1-1", nil)
	r.pushed(apnsToken(1), 1)
	eventually(t, "FCM push", func() bool { return r.fcmPushes("fcm-token-bob-1") == 1 })
	var ios map[string]any
	if err := json.Unmarshal(r.apns.Pushes()[0].Payload, &ios); err != nil {
		t.Fatal(err)
	}
	android := r.fcm.Pushes()[0].Message.Data
	inside, _ := ios["data"].(map[string]any) // where apps written for MPUSH look
	for key, want := range map[string]string{"ntype": "0", "nfromusername": "alice", "nfrom": "alice", "nmsg": "Incoming call from Alice",
		"ncallid": "call-1-1", "ntousr": "bob", "handle": "alice"} {
		if key != "handle" && inside[key] != want {
			t.Errorf("%s: iOS has %q in data; want %q", key, inside[key], want)
		}
		if ios[key] != want || android[key] != want {
			t.Errorf("%s: iOS %q, Android %q; want %q", key, ios[key], android[key], want)
		}
	}
	uuid := regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	if id := android["callUUID"]; !uuid.MatchString(id) || ios["callUUID"] != id {
		t.Errorf("callUUID: iOS %v, Android %v", ios["callUUID"], id)
	}
}

// P9: topic, time to live and push type are the operator's.
func TestFeatureP9Overrides(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{apnsConfig: "    topic: org.example.topic\n    ttl: {custom: 60s}\n    push_type: {custom: background}\n    priority: {custom: normal}"})
	r.asleep("bob@example.com", twoTokens("bob", apnsToken(1), apnsToken(2)))
	before := time.Now().Unix()
	r.send(obj{"aor": "bob@example.com", "kind": "custom", "title": "t"})
	r.pushed(apnsToken(2), 1)
	p := r.apns.Pushes()[0]
	var expires int64
	if _, err := fmt.Sscan(p.Expiration, &expires); err != nil || expires < before+60 || expires > time.Now().Unix()+60 {
		t.Errorf("expiration %q", p.Expiration)
	}
	if p.Topic != "org.example.topic" || p.PushType != "background" || p.Priority != "5" || p.Status != 200 {
		t.Errorf("pushed as %+v", p)
	}
	before = time.Now().Unix()
	r.startWake("bob@example.com", "1-1", nil)
	r.pushed(apnsToken(1), 1)
	p = r.apns.Pushes()[1]
	if _, err := fmt.Sscan(p.Expiration, &expires); err != nil || expires < before+10 || expires > time.Now().Unix()+31 {
		t.Errorf("a call's expiration %q", p.Expiration)
	}
	if p.Topic != "org.example.topic.voip" || p.PushType != "voip" || p.Priority != "10" {
		t.Errorf("a call is pushed as %+v", p)
	}
}

// P10: a provider that keeps failing is left alone, and is back at the first
// success.
func TestFeatureP10Breaker(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{fcmConfig: "    tries: 1\n    breaker_failures: 2\n    breaker_pause: 2s"})
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	r.fcm.Behave("fcm-token-bob-1", fcmsim.Behaviour{Status: 503, Code: "UNAVAILABLE"})
	open := func() bool {
		_, metrics := r.get("/metrics")
		return regexp.MustCompile(`(?m)^sipwake_push_breaker_state\{.*provider="fcm"\} [12]$`).MatchString(metrics)
	}
	send := func() {
		id := r.send(obj{"aor": "bob@example.com", "kind": "custom", "title": "t"})
		eventually(t, "an outcome", func() bool { return r.states(id) != "[queued ]" })
	}
	for range 2 {
		if open() {
			t.Fatal("opened too early")
		}
		send()
	}
	eventually(t, "the breaker opens", open)
	tried := len(r.fcm.Pushes())
	id := r.send(obj{"aor": "bob@example.com", "kind": "custom", "title": "t"})
	eventually(t, "refused at once", func() bool { return r.states(id) == "[queued breaker_open]" })
	if n := len(r.fcm.Pushes()); n != tried {
		t.Errorf("%d tries though the breaker is open", n-tried)
	}
	r.fcm.Behave("fcm-token-bob-1")
	eventually(t, "the breaker closes", func() bool { send(); return !open() })
	if r.fcmPushes("fcm-token-bob-1") == 0 {
		t.Error("closed without a success")
	}
}

// P11: an application pushes a user, or one token of an app.
func TestFeatureP11Send(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	for _, to := range []obj{{"aor": "bob@example.com"}, {"provider": "fcm", "app": "org.example.phone", "token": "fcm-token-other"}} {
		to["kind"], to["title"], to["body"], to["data"] = "custom", "Offer", "only today", obj{"page": "7"}
		id := r.send(to)
		eventually(t, "sent", func() bool { return r.states(id) == "[sent accepted]" })
	}
	for _, p := range r.fcm.Pushes() {
		if p.Message.Data["page"] != "7" || !strings.Contains(string(p.Message.Notification), "only today") {
			t.Errorf("pushed %+v %s", p.Message.Data, p.Message.Notification)
		}
	}
	if r.fcmPushes("fcm-token-bob-1") != 1 || r.fcmPushes("fcm-token-other") != 1 {
		t.Error("not one push for each")
	}
}

// O2: the load rises while the push service is slow, messages are shed, calls are
// not, and it falls again.
func TestFeatureO2Load(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{fcmConfig: "    queue: 16\n    in_flight: 4\n    timeout: 5s"})
	load := func() (level int) {
		var res struct {
			Load    int
			Reasons []struct {
				Name  string
				Share float64
			}
		}
		r.call("service.load", nil, &res)
		if len(res.Reasons) == 0 || res.Reasons[0].Name != "push_queue" {
			t.Errorf("load without a reason: %+v", res)
		}
		return res.Load
	}
	if l := load(); l != 0 {
		t.Fatalf("idle: load %d", l)
	}
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	const slow = 40
	for i := range slow {
		token := fmt.Sprint("fcm-token-slow-", i)
		r.fcm.Behave(token, fcmsim.Behaviour{Delay: 2 * time.Second})
		r.send(obj{"provider": "fcm", "app": "org.example.phone", "token": token, "kind": "custom", "title": "t"})
	}
	eventually(t, "load 3", func() bool { return load() >= 3 })
	if res := r.startWake("bob@example.com", "1-1", obj{"kind": "chat", "body": "hi"}); res.Outcome != "shed" {
		t.Errorf("a message under overload: %+v", res)
	}
	if res := r.startWake("bob@example.com", "2-2", nil); res.Outcome != "pushing" {
		t.Errorf("a call under overload: %+v", res)
	}
	r.eventuallyLong("load 0", func() bool { return load() == 0 })
}

// O3: figures, the users with push, and logs that are found by Call-ID and by
// user.
func TestFeatureO3Statistics(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	r.startWake("bob@example.com", "1-1", nil)
	r.pushed(apnsToken(1), 1)
	eventually(t, "accepted", func() bool { return strings.Contains(r.trace("bob@example.com"), "accepted") })
	r.endWake("bob@example.com", "1-1", "cancelled")
	var stats map[string]float64
	r.call("service.stats", nil, &stats)
	sum := 0.0
	for name, v := range stats {
		if strings.HasPrefix(name, "sipwake_push_total{") && strings.Contains(name, "accepted") {
			sum += v
		}
	}
	if sum != 1 {
		t.Errorf("service.stats counts %v accepted pushes", sum)
	}
	found := false
	for line := range strings.Lines(r.logs.String()) {
		var entry struct {
			CallID string `json:"call_id"`
			AOR    string
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		found = found || entry.CallID == "call-1-1" && entry.AOR == "bob@example.com"
	}
	if !found {
		t.Error("no log line has the call's call_id and aor")
	}
}

// G13: a push to a list of users and to all users of an app, at a rate, across a restart.
// push.list has the messages that were not sent.
func TestFeatureG13Many(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{fcmConfig: "    breaker_failures: 1000"})
	var aors []string
	for i := range 30 {
		aor := fmt.Sprintf("user%d@example.com", i)
		r.asleep(aor, fcmContact(fmt.Sprint("user", i), fmt.Sprint("fcm-token-many-", i)))
		aors = append(aors, aor)
	}
	r.asleep("iphone@example.com", apnsContact("iphone", apnsToken(1)))
	r.fcm.Behave("fcm-token-many-7", fcmsim.Behaviour{Status: 400, Code: "INVALID_ARGUMENT"})
	type status struct {
		ID   string
		Many struct {
			State       string
			Users, Sent int
			None        int `json:"without_device"`
		}
	}
	var list, all status
	r.call("push.many", obj{"aors": append(aors, "nobody@example.com"), "kind": "custom", "title": "t", "rate": 10}, &list)
	eventually(t, "the first ones", func() bool { return r.fcmPushes("fcm-token-many-0") == 1 })
	stop(t, r.app)
	r.start()
	ended := func(s *status) func() bool {
		return func() bool { r.call("push.status", obj{"id": s.ID}, s); return s.Many.State == "ended" }
	}
	r.eventuallyLong("the list ended", ended(&list))
	if list.Many.Users != 31 || list.Many.Sent != 31 || list.Many.None != 1 {
		t.Errorf("the list: %+v", list)
	}
	r.call("push.many", obj{"app": project, "kind": 3, "title": "t", "rate": 1000}, &all)
	r.eventuallyLong("the app ended", ended(&all))
	if all.Many.Users != 30 || all.Many.None != 0 || len(r.apns.Pushes()) != 0 {
		t.Errorf("the app: %+v", all)
	}
	for i := range aors {
		token := fmt.Sprint("fcm-token-many-", i)
		eventually(t, token, func() bool { return i == 7 || r.fcmPushes(token) == 2 })
	}
	found := func(p obj) (n int) {
		var res struct {
			Messages []struct{ AOR, Job string }
			Cursor   string
		}
		for {
			r.call("push.list", p, &res)
			if n += len(res.Messages); res.Cursor == "" {
				return n
			}
			p["cursor"] = res.Cursor
		}
	}
	eventually(t, "what failed is listed", func() bool { return found(obj{"state": "failed"}) == 2 })
	for what, c := range map[string]struct {
		p    obj
		want int
	}{
		"all, and the two jobs": {obj{}, 62}, "of a job": {obj{"job": all.ID}, 30}, "of a user": {obj{"aor": "user3@example.com"}, 2},
		"failed of a job": {obj{"job": list.ID, "state": "failed"}, 1}, "another app": {obj{"app": "no.such"}, 0}, "sent": {obj{"state": "sent", "limit": 5}, 58},
	} {
		if n := found(c.p); n != c.want {
			t.Errorf("%s: %d messages, want %d", what, n, c.want)
		}
	}
}
