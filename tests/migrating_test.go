package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/push/apns"
	"github.com/sipwake/sipwake/push/fcm"
)

// The files of MPUSH with one message for all kinds: its keywords where its documents
// have the fields.
const (
	fcmMessage = `{
 "message": {
  "token": "TOKEN",
  "notification": { "title": "TITLE", "body": "BODY" },
  "data": {
   "ntype": "TYPE",
   "nfromusername": "FROMUSERNAME",
   "nfrom": "FROM",
   "nmsg": "MSG",
   "ncallid": "CALLID",
   "ntousr": "TOUSERNAME"
  },
  "android": { "priority": "PRIORITY", "ttl": "TTLNUMs", "notification": { "sound": "SOUND", "notification_priority": "NPRIORITY" } },
  "apns": {
   "headers": { "apns-priority": "APRIORITY", "apns-push-type": "PUSHTYPE" },
   "payload": { "aps": { "sound": "SOUND" } }
  }
 }
}
`
	pushkitMessage = `{
 "headers": { "apns-priority": "APRIORITY", "apns-push-type": "PUSHTYPE", "apns-topic": "PACKAGE.voip", "apns-expiration": "TTLNUM" },
 "aps": { "alert": { "title": "TITLE", "body": "BODY" }, "sound": "SOUND" },
 "data": {
  "ntype": "TYPE",
  "nfromusername": "FROMUSERNAME",
  "nfrom": "FROM",
  "nmsg": "MSG",
  "ncallid": "CALLID",
  "ntousr": "TOUSERNAME"
 }
}
`
)

// mpushDir returns a directory of keys as MPUSH leaves it: a certificate that says itself
// for which app it is, one with its package and password, two service accounts, and
// the messages.
func mpushDir(t *testing.T, apple *apnssim.Server, google *fcmsim.Server) string {
	t.Helper()
	dir, made := t.TempDir(), t.TempDir()
	put := func(name, from string) {
		t.Helper()
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p12, _, err := apple.MakeCertificate(made, apnssim.Certificate{BundleID: "com.mycompany.myapp", Password: "pwd-of-p12",
		Topics: []string{"com.mycompany.myapp", "com.mycompany.myapp.voip"}})
	if err != nil {
		t.Fatal(err)
	}
	put("pushkit.p12", p12)
	_, pem, err := apple.MakeCertificate(made, apnssim.Certificate{BundleID: "com.voip.phone"})
	if err != nil {
		t.Fatal(err)
	}
	put("pushkit.com.voip.phone.pem", pem)
	for i, name := range []string{"fcmkey.json", "fcmkey.com.mycompany.android.json"} {
		account, err := google.MakeAccount(made, fmt.Sprintf("project-%d", i))
		if err != nil {
			t.Fatal(err)
		}
		put(name, account)
	}
	for name, text := range map[string]string{"pushkit.pwd": "pwd-of-p12\r\n", "fcmmessage.txt": fcmMessage, "pushkitmessage.txt": pushkitMessage,
		"mpush.log": "started"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// mpushRig returns a sipwake whose only apps are those of such a directory, which push to
// the simulators.
func mpushRig(t *testing.T, mode fcm.Notification) *rig {
	t.Helper()
	return newRig(t, rigOptions{prepare: func(r *rig, c *config.Config) {
		dir := mpushDir(t, r.apns, r.fcm)
		appleCA, googleCA := c.APNs[0].CAFile, c.FCM[0].CAFile
		var err error
		if c.APNs, err = apns.FromDir(dir); err != nil {
			t.Fatal(err)
		}
		for i := range c.APNs {
			c.APNs[i].Endpoint, c.APNs[i].SandboxEndpoint, c.APNs[i].CAFile = r.apns.URL(), r.apns.URL(), appleCA
		}
		if c.FCM, err = fcm.FromDir(dir); err != nil {
			t.Fatal(err)
		}
		for i := range c.FCM {
			c.FCM[i].Endpoint, c.FCM[i].CAFile, c.FCM[i].Notification = r.fcm.URL(), googleCA, mode
		}
	}})
}

// The directory can be used unchanged: `sipwake check` lists each app, `sipwake templates`
// shows the messages, and what sipwake cannot use is listed with the reason.
func TestMigratingDirectory(t *testing.T) {
	t.Parallel()
	program := must2(program())(t)
	apple, err := apnssim.Start(apnssim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer apple.Close()
	google, err := fcmsim.Start(fcmsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer google.Close()
	dir := mpushDir(t, apple, google)
	file := writeTemp(t, "credentials_dir: "+dir)
	run := func(want bool, args ...string) string {
		t.Helper()
		out, err := exec.Command(program, args...).CombinedOutput()
		if (err == nil) != want {
			t.Errorf("%v: %v: %s", args, err, out)
		}
		return string(out)
	}
	checked := run(true, "check", file)
	for _, app := range []string{"com.mycompany.myapp", "com.voip.phone", "com.mycompany.android", "project-0"} {
		if !strings.Contains(checked, app) {
			t.Errorf("%s was not found: %s", app, checked)
		}
	}
	shown := run(true, "templates", "--config", file)
	for _, want := range []string{"# apns com.mycompany.myapp production: call voip (" + filepath.Join(dir, "pushkitmessage.txt"), filepath.Join(dir, "fcmmessage.txt"),
		`"nmsg": "Incoming call from Alice Example"`} {
		if !strings.Contains(shown, want) {
			t.Errorf("no %s in %.2000s", want, shown)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "pushkit.pwd"), []byte("not-the-password"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(false, "check", file); !strings.Contains(out, "pushkit.p12 cannot be decrypted: certificate_password is wrong") || strings.Contains(out, "not-the-password") {
		t.Errorf("a wrong password: %s", out)
	}
}

// The REGISTERs of MPUSH's documents bind, and each push has every field where the
// documents have it.
func TestMigratingRegisters(t *testing.T) {
	t.Parallel()
	r := mpushRig(t, fcm.NotificationAuto)
	hex := strings.Repeat("9d0c5f3e", 8)
	const fcmToken = "c-10-ap_Kt0:G7SThkASJx2K4Rm1033iR0mIgzI1cLg5xxpST4cjrd_cqQquRLkHMi3eY4g"
	keys := func(ntype, msg, call string) map[string]string {
		return map[string]string{"ntype": ntype, "nfromusername": "1001", "nfrom": "1001", "nmsg": msg, "ncallid": call, "ntousr": "1111"}
	}
	for i, c := range []struct{ contact, header, app, token, service string }{
		{"<sip:1111@192.168.1.101:14501>", "i:com.mycompany.myapp:" + hex, "com.mycompany.myapp", hex, "apns"},
		{"<sip:1111@192.168.1.101:14501>", "p:i:com.voip.phone:" + hex[:62] + "01", "com.voip.phone", hex[:62] + "01", "apns"},
		{"<sip:1111@192.168.1.101:14501>", "i:com.mycompany.myapp:" + fcmToken, "", fcmToken, "fcm"}, // as the topic about iOS prints it
		{"<sip:1111@192.168.1.101:14501>", "a:com.mycompany.android:" + fcmToken + "2", "", fcmToken + "2", "fcm"},
		{"<sip:1111@192.168.1.101:14501>", "j:com.other.app:" + fcmToken + "3", "", fcmToken + "3", "fcm"},
		{"<sip:1111@192.168.1.101:14501>", "w:com.other.web:" + fcmToken + "4", "", fcmToken + "4", "fcm"},
		{"<sip:1111@192.168.1.101:14501;pn-provider=fcm;pn-param=com.mycompany.android;pn-prid=" + fcmToken + "5>", "", "", fcmToken + "5", "fcm"},
		{"<sip:1111@192.168.1.101:14501;push-token-type=a;push-token-app=com.mycompany.android;push-token-id=" + fcmToken + "6>", "", "",
			fcmToken + "6", "fcm"},
	} {
		what := fmt.Sprint(c.contact, " ", c.header)
		aor := fmt.Sprintf("1111@pbx%d.example.com", i)
		headers := obj{}
		if c.header != "" {
			headers["X-MPUSH"] = c.header
		}
		r.bound(aor, c.contact, headers)
		before := time.Now().Unix()
		call := fmt.Sprint(i, "-1")
		if res := r.startWake(aor, call, obj{"from": "sip:1001@example.com", "display": "Ann"}); res.Outcome != "pushing" {
			t.Errorf("%s: %+v", what, res)
			continue
		}
		want := keys("0", "Incoming call from Ann", "call-"+call)
		if c.service == "apns" {
			r.pushed(c.token, 1)
			all := r.apns.Pushes()
			p := all[len(all)-1]
			var payload struct {
				APS struct {
					Alert map[string]string `json:"alert"`
					Sound string            `json:"sound"`
				} `json:"aps"`
				Data    map[string]string `json:"data"`
				Headers any               `json:"headers"`
			}
			if err := json.Unmarshal(p.Payload, &payload); err != nil {
				t.Fatal(err)
			}
			alert := map[string]string{"title": "Incoming call", "body": "Incoming call from Ann"}
			if d := cmp.Diff(want, payload.Data) + cmp.Diff(alert, payload.APS.Alert); d != "" || payload.APS.Sound != "default" || payload.Headers != nil {
				t.Errorf("%s: %s%s", what, d, p.Payload)
			}
			expires, err := strconv.ParseInt(p.Expiration, 10, 64)
			if got := p.Topic + " " + p.PushType + " " + p.Priority; got != c.app+".voip voip 10" || err != nil || expires < before || expires > before+60 {
				t.Errorf("%s: sent with %s, until %s", what, got, p.Expiration)
			}
			continue
		}
		eventually(t, what, func() bool { return r.fcmPushes(c.token) == 1 })
		all := r.fcm.Pushes()
		m := all[len(all)-1].Message
		ttl, err := time.ParseDuration(m.Android.TTL)
		if d := cmp.Diff(want, m.Data); d != "" || m.Notification != nil || m.Android.Notification != nil || m.Android.Priority != "high" ||
			err != nil || ttl <= 0 || ttl > 30*time.Second {
			t.Errorf("%s: %s%+v", what, d, m)
		}
	}
	// The next REGISTER of a phone without a binding was enough; null ends it.
	r.register("1111@pbx0.example.com", "<sip:1111@192.168.1.101:14501>", obj{"headers": obj{"X-MPUSH": "null"}, "call_id": "off"})
	if n := r.bindings("1111@pbx0.example.com"); n != 0 {
		t.Errorf("X-MPUSH: null leaves %d bindings", n)
	}
}

// MPUSH's modes of the notification part, by their numbers, with its own message.
func TestMigratingNotificationModes(t *testing.T) {
	t.Parallel()
	page := "FCM notification part: 0 always keep, 1 remove for calls, 2 always remove | `notification: keep`, `auto` or `never`"
	if !strings.Contains(readDoc(t, "docs/MIGRATING.md"), page) {
		t.Error("the page maps them otherwise")
	}
	for mode, want := range map[fcm.Notification]struct{ call, chat bool }{
		fcm.NotificationKeep: {true, true}, fcm.NotificationAuto: {false, true}, fcm.NotificationNever: {false, false},
	} {
		r := mpushRig(t, mode)
		r.bound("bob@example.com", "<sip:bob@192.0.2.9>", obj{"X-MPUSH": "a:com.mycompany.android:dev1:APA91b"})
		for i, kind := range []string{"call", "chat"} {
			r.startWake("bob@example.com", fmt.Sprint(i, "-1"), obj{"kind": kind, "body": map[string]any{"chat": "hi"}[kind]})
			eventually(t, kind, func() bool { return r.fcmPushes("dev1:APA91b") == i+1 })
			all := r.fcm.Pushes()
			m := all[len(all)-1].Message
			shown := map[string]bool{"call": want.call, "chat": want.chat}[kind]
			if (m.Notification != nil) != shown || (m.Android.Notification != nil) != shown || m.Data["ntype"] != fmt.Sprint(i) {
				t.Errorf("%s: %s with notification %s, %s", mode, kind, m.Notification, m.Android.Notification)
			}
		}
	}
}

// A list of bindings moves phones that sleep, with what the page says of its fields.
func TestMigratingImport(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{rpc: "  token_files: [" + writeTemp(t, docToken) + "]"})
	r.auth = docToken
	line := func(over obj) obj {
		b := obj{"aor": "bob@example.com", "contact": "", "call_id": "migrated", "cseq": 0, "node": "", "registered_at": "2026-11-01T03:04:05Z"}
		for k, v := range over {
			b[k] = v
		}
		return b
	}
	load := func(bindings ...obj) {
		t.Helper()
		r.call("binding.import", obj{"bindings": bindings}, nil)
	}
	token := func(text, service string) []obj {
		if service == "" {
			return []obj{{"token": text}}
		}
		return []obj{{"token": text, "service": service}}
	}
	const device = "urn:uuid:00000000-0000-1000-8000-aabbccddeeff"
	load(line(obj{"provider": "fcm", "app": "org.example.phone", "tokens": token("fcm-token-bob-1", "")}),
		line(obj{"aor": "carol@example.com", "provider": "apns", "app": bundle, "tokens": token(apnsToken(1), "voip")}),
		line(obj{"aor": "dave@example.com", "provider": "apns", "app": bundle, "tokens": token(apnsToken(2), "remote")}),
		line(obj{"aor": "erin@example.com", "provider": "fcm", "app": "org.example.phone", "device": device, "tokens": token("fcm-token-erin", "")}),
		line(obj{"aor": "frank@example.com", "provider": "fcm", "app": "org.example.phone", "device": "urn:uuid:another", "tokens": token("fcm-token-frank", "")}),
		line(obj{"aor": "grace@example.com", "provider": "fcm", "app": "org.example.phone", "device": "urn:uuid:another", "tokens": token("fcm-token-grace", "")}))
	for i, user := range []string{"bob", "carol", "dave"} {
		r.startWake(user+"@example.com", fmt.Sprint(i, "-1"), nil)
	}
	eventually(t, "the pushes", func() bool {
		return r.fcmPushes("fcm-token-bob-1") == 1 && r.pushes(apnsToken(1)) == 1 && r.pushes(apnsToken(2)) == 1
	})
	for _, p := range r.apns.Pushes() {
		if want := map[string]string{apnsToken(1): "voip", apnsToken(2): "alert"}[p.Token.Reveal()]; p.PushType != want {
			t.Errorf("%s instead of %s", p.PushType, want)
		}
	}
	// The device, without quotes and angle brackets, is the phone that registers: with its
	// token or a new one. A wrong one is found out by the token alone.
	for _, c := range []struct {
		user, token, instance string
		want                  int
	}{
		{"bob", "fcm-token-bob-1", "", 1},
		{"erin", "fcm-token-erin-new", device, 1},
		{"frank", "fcm-token-frank", device, 1},
		{"grace", "fcm-token-grace-new", device, 2},
	} {
		contact := fcmContact(c.user, c.token)
		if c.instance != "" {
			contact += `;+sip.instance="<` + device + `>"`
		}
		r.register(c.user+"@example.com", contact, obj{"call_id": "new-" + c.user})
		if n := r.bindings(c.user + "@example.com"); n != c.want {
			t.Errorf("%s has %d bindings, want %d", c.user, n, c.want)
		}
	}
	r.fcm.Behave("fcm-token-grace", fcmsim.Behaviour{Status: 404, Code: "UNREGISTERED"})
	r.startWake("grace@example.com", "9-1", nil)
	eventually(t, "the old token goes", func() bool { return r.bindings("grace@example.com") == 1 })
}

// Sylk's applications as apps of ours, and its clients.
func TestMigratingSylk(t *testing.T) {
	t.Parallel()
	var pem string
	r := newRig(t, rigOptions{prepare: func(r *rig, c *config.Config) {
		made := t.TempDir()
		_, both, err := r.apns.MakeCertificate(made, apnssim.Certificate{BundleID: bundle})
		if err != nil {
			t.Fatal(err)
		}
		// Two files there, one here: certificate and key, one after the other.
		text, err := os.ReadFile(both)
		if err != nil {
			t.Fatal(err)
		}
		certificate, key, ok := strings.Cut(string(text), "-----BEGIN RSA")
		if !ok {
			t.Fatal("no key in the file")
		}
		pem = filepath.Join(made, "both.pem")
		if err := os.WriteFile(pem, []byte(certificate+"-----BEGIN RSA"+key), 0o600); err != nil {
			t.Fatal(err)
		}
		a := &c.APNs[0]
		a.CertificateFile, a.KeyFile, a.TeamID, a.KeyID = pem, "", "", ""
		c.FCM[0].Packages = []string{"com.agprojects.sylk"}
	}})
	// By token: the first is PushKit's and is pushed as voip, the other one is not.
	voip, remote := apnsToken(1), apnsToken(2)
	r.bound("bob@example.com", "<sip:bob@192.0.2.9;pn-type=ios;pn-app="+bundle+";pn-tok="+voip+"-"+remote+";pn-device=d1;pn-silent=1>", nil)
	r.bound("carol@example.com", "<sip:carol@192.0.2.9;pn-type=android;pn-app=com.agprojects.sylk;pn-tok=fcm-token-carol;pn-device=d2;pn-silent=1>", nil)
	r.startWake("bob@example.com", "1-1", nil)
	r.startWake("bob@example.com", "2-1", obj{"kind": "chat", "body": "hi"})
	r.startWake("carol@example.com", "3-1", nil)
	eventually(t, "the pushes", func() bool {
		return r.pushes(voip) == 1 && r.pushes(remote) == 1 && r.fcmPushes("fcm-token-carol") == 1
	})
	for _, p := range r.apns.Pushes() {
		if want := map[string]string{voip: "voip", remote: "alert"}[p.Token.Reveal()]; p.PushType != want {
			t.Errorf("%s instead of %s", p.PushType, want)
		}
	}
	// A key of the interface that Google has switched off makes no app.
	bad := writeTemp(t, "AAAAx7Q:APA91b-the-server-key")
	if _, err := (&fcm.Config{CredentialsFile: bad}).Apps(nil); err == nil || !strings.Contains(err.Error(), "is not the JSON file of a service account") {
		t.Errorf("an authorization key: %v", err)
	}
}

// Bindings move from the embedded store to Redis by the page's commands.
func TestMigratingStores(t *testing.T) {
	t.Parallel()
	program := must2(program())(t)
	from := newRig(t, rigOptions{rpc: "  token_files: [" + writeTemp(t, docToken) + "]"})
	from.auth = docToken
	from.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	to := newRig(t, rigOptions{rpc: "  token_files: [" + writeTemp(t, docToken) + "]",
		store: fmt.Sprintf("  type: redis\n  redis:\n    addresses: [%q]", storetest.NewRedis(t).Addr)})
	to.auth = docToken
	dir := t.TempDir()
	for _, c := range []struct {
		r       *rig
		command string
	}{{from, "export"}, {to, "import"}} {
		const anyPort = "127.0.0.1:0"
		text, err := os.ReadFile(c.r.file)
		if err != nil {
			t.Fatal(err)
		}
		file := c.r.write("client.yml", strings.Replace(string(text), anyPort, c.r.app.RPCAddr(), 1))
		run := exec.Command(program, "bindings", "--config", file, c.command, "bindings.jsonl")
		run.Dir = dir
		if out, err := run.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", c.command, err, out)
		}
	}
	file := filepath.Join(dir, "bindings.jsonl")
	text, err := os.ReadFile(file)
	if info, statErr := os.Stat(file); err != nil || statErr != nil || info.Mode().Perm() != 0o600 || !strings.Contains(string(text), "fcm-token-bob-1") {
		t.Errorf("the file: %v, %v, %v", info, err, statErr)
	}
	to.startWake("bob@example.com", "1-1", nil)
	eventually(t, "the push from the other store", func() bool { return to.fcmPushes("fcm-token-bob-1") == 1 })
}
