package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/app"
	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

// clientTemplates are the directories of deploy/templates, and whom they are for: a
// family of clients with one provider. reads is what such a client does with a push,
// by its source where that is public.
var clientTemplates = map[string]struct {
	provider pnparam.Provider
	reads    func(kind push.Kind, service pnparam.Service, payload obj) error
}{
	"linphone-ios":     {pnparam.APNs, linphoneIOS},
	"linphone-android": {pnparam.FCM, linphoneAndroid},
	"callkit-ios":      {pnparam.APNs, callKit},
	"doorbell-ios":     {pnparam.APNs, doorbellIOS},
	"doorbell-android": {pnparam.FCM, doorbellAndroid},
	"safari":           {pnparam.WebPush, safari},
}

// The templates that come with sipwake are found in order by `sipwake check`, and each
// kind holds what the client reads.
func TestClientTemplates(t *testing.T) {
	t.Parallel()
	program := must2(program())(t)
	entries, err := os.ReadDir("../deploy/templates")
	if err != nil || len(entries) != len(clientTemplates) {
		t.Errorf("%d directories, %d are tested: %v", len(entries), len(clientTemplates), err)
	}
	clients := readDoc(t, "docs/CLIENTS.md")
	for name, family := range clientTemplates {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			templates, err := filepath.Abs("../deploy/templates/" + name)
			if err != nil {
				t.Fatal(err)
			}
			text := map[pnparam.Provider]string{
				pnparam.APNs: "apns: [{bundle_id: com.example.phone, team_id: ABCDE12345, key_id: ABCDE12345, " +
					"key_file: /etc/sipwake/apns.p8, templates_dir: %s}]",
				pnparam.FCM:     "fcm: [{credentials_file: /etc/sipwake/firebase.json, templates_dir: %s}]",
				pnparam.WebPush: "webpush: {vapid_key_file: /etc/sipwake/vapid.pem, subject: 'mailto:admin@example.org', templates_dir: %s}",
			}[family.provider]
			file := writeTemp(t, inTemp(t, dir, fmt.Sprintf(text, templates)))
			if out, err := exec.Command(program, "check", file).CombinedOutput(); err != nil || strings.Contains(string(out), "warning") {
				t.Errorf("check: %v: %s", err, out)
			}
			c, err := config.Load(file)
			if err != nil {
				t.Fatal(err)
			}
			apps, err := app.Apps(c)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range []push.Values{push.SampleValues(), push.HostileValues()} {
				list, err := apps[0].Templates.Render("com.example.phone", push.PrivacyNone, v)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range list {
					var payload obj
					if err := json.Unmarshal(r.Payload, &payload); err != nil {
						t.Fatal(err)
					}
					if filepath.Dir(r.Source) != templates {
						t.Errorf("%s %s has no template of its own", r.Kind, r.Service)
					}
					if err := family.reads(r.Kind, r.Service, payload); err != nil {
						t.Errorf("%s %s: %v: %s", r.Kind, r.Service, err, r.Payload)
					}
				}
			}
			if !strings.Contains(clients, "templates/"+name) {
				t.Error("docs/CLIENTS.md does not name it")
			}
		})
	}
}

// The payloads that the page shows are those of the files.
func TestClientTemplatesShown(t *testing.T) {
	t.Parallel()
	shown := regexp.MustCompile("(?ms)^```json (\\S+)\n(.*?)^```$").FindAllStringSubmatch(readDoc(t, "docs/CLIENTS.md"), -1)
	if len(shown) == 0 {
		t.Fatal("none")
	}
	for _, m := range shown {
		if text := readDoc(t, "deploy/templates/"+m[1]); text != m[2] {
			t.Errorf("%s is\n%s", m[1], text)
		}
	}
}

// text returns a string of the payload, by its path.
func (o obj) text(path ...string) string {
	for _, key := range path[:len(path)-1] {
		inner, _ := o[key].(map[string]any)
		o = inner
	}
	s, _ := o[path[len(path)-1]].(string)
	return s
}

const sampleCallID, sampleUUID = "a84b4c76e66710@pc33.example.com", "6ba7b810-9dad-41d1-80b4-00c04fd430c8"

// linphoneIOS: for a voip push, liblinphone takes aps["call-id"] and shows a call of
// that Call-ID, which the INVITE then joins; an aps.uuid that is not the phone's own
// makes older ones drop the push. For another push the app's notification service
// takes userInfo["call-id"], and starts only with mutable-content. A call-id where no
// request will come has it wait for one.
func linphoneIOS(kind push.Kind, service pnparam.Service, payload obj) error {
	aps, _ := payload["aps"].(map[string]any)
	_, hasUUID := aps["uuid"]
	alert := obj(aps).text("alert", "loc-key")
	id := payload.text("call-id")
	if service == pnparam.VoIP {
		id, alert = payload.text("aps", "call-id"), payload.text("aps", "loc-key")
	}
	wantID, wantKey := "", ""
	switch kind {
	case push.Call:
		wantID, wantKey = sampleCallID, "IC_MSG"
	case push.Chat:
		wantID, wantKey = sampleCallID, "IM_MSG"
	}
	switch {
	case id != wantID || alert != wantKey:
		return fmt.Errorf("call-id %q, loc-key %q; want %q, %q", id, alert, wantID, wantKey)
	case hasUUID:
		return fmt.Errorf("aps.uuid is there")
	case (aps["mutable-content"] != nil) != (kind == push.Chat):
		return fmt.Errorf("mutable-content %v", aps["mutable-content"])
	case (aps["content-available"] != nil) != (kind == push.Cancel || kind == push.Refresh):
		return fmt.Errorf("content-available %v", aps["content-available"])
	}
	return nil
}

// linphoneAndroid: the SDK's FirebaseMessaging hands data["call-id"], or "", to the
// core. It runs only for data without a notification while the app sleeps.
func linphoneAndroid(kind push.Kind, _ pnparam.Service, payload obj) error {
	want := ""
	if kind == push.Call || kind == push.Chat {
		want = sampleCallID
	}
	if got := payload.text("data", "call-id"); got != want {
		return fmt.Errorf("call-id %q, want %q", got, want)
	}
	if (payload["notification"] != nil) != (kind == push.Custom) {
		return fmt.Errorf("notification %v", payload["notification"])
	}
	return nil
}

// callKit: apps with Apple's own example read callUUID and handle; those made with
// react-native-voip-push-notification uuid, callerName and handle; with
// flutter_callkit_incoming id, nameCaller and handle. A cancel has the UUID of its call.
func callKit(kind push.Kind, _ pnparam.Service, payload obj) error {
	if kind != push.Call && kind != push.Cancel {
		if payload["callUUID"] != nil {
			return fmt.Errorf("it has callUUID, but there is no call")
		}
		return nil
	}
	for _, key := range []string{"callUUID", "uuid", "id"} {
		if got := payload.text(key); got != sampleUUID {
			return fmt.Errorf("%s is %q", key, got)
		}
	}
	for _, key := range []string{"handle", "callerName", "nameCaller"} {
		if payload.text(key) == "" {
			return fmt.Errorf("%s is empty", key)
		}
	}
	return nil
}

// doorbellIOS: the app ignores the payload and registers; iOS shows the alert.
func doorbellIOS(kind push.Kind, service pnparam.Service, payload obj) error {
	aps, _ := payload["aps"].(map[string]any)
	silent := kind == push.Cancel || kind == push.Refresh
	switch {
	case len(payload) != 1 || aps == nil:
		return fmt.Errorf("more than aps")
	case silent != (aps["content-available"] != nil) || silent != (aps["alert"] == nil):
		return fmt.Errorf("shows %v", aps)
	case service == pnparam.VoIP && payload.text("aps", "alert") == "":
		return fmt.Errorf("nobody calls")
	}
	return nil
}

func doorbellAndroid(kind push.Kind, _ pnparam.Service, payload obj) error {
	shown := kind == push.Chat || kind == push.Custom
	if payload.text("data", "type") != string(kind) || shown != (payload["notification"] != nil) {
		return fmt.Errorf("type %q, notification %v", payload.text("data", "type"), payload["notification"])
	}
	return nil
}

// safari: a declarative push message needs web_push, a title and where to go.
func safari(kind push.Kind, _ pnparam.Service, payload obj) error {
	if payload["web_push"] != 8030.0 || payload.text("notification", "title") == "" ||
		!strings.HasPrefix(payload.text("notification", "navigate"), "https://") || payload.text("kind") != string(kind) {
		return fmt.Errorf("it is no declarative push message")
	}
	return nil
}
