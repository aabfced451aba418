package tests

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/lab/webpushsim"
	"github.com/sipwake/sipwake/push/webpush"
)

// P6: several web apps, each with its own key and subject. The client names its app in
// pn-param or as the package of X-MPUSH. A client without a name, or with an unknown one,
// gets the app without packages. The answer to a REGISTER, and to a query, has the key for
// the app's subscription.
func TestFeatureP6WebApps(t *testing.T) {
	t.Parallel()
	sim, err := webpushsim.Start(webpushsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	ca, err := sim.WriteCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	keys, config := map[string]string{}, "webpush:\n"
	for name, packages := range map[string]string{"shop": "[shop, com.example.shop]", "office": "[office]", "": "[]"} {
		pem, err := webpush.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		file := writeTemp(t, string(pem))
		if keys[name], err = (&webpush.Config{VAPIDKeyFile: file}).PublicKey(); err != nil {
			t.Fatal(err)
		}
		config += "  - {packages: " + packages + ", vapid_key_file: " + filepath.Clean(file) + ", subject: \"mailto:x" + name + "@example.com\"" +
			", hosts: [\"" + sim.Host() + "\"], ca_file: " + ca + ", allow_private: true}\n"
	}
	r := newRig(t, rigOptions{more: config})
	for user, c := range map[string]struct{ param, mpush, app string }{
		"a": {";pn-param=shop", "", "shop"}, "b": {";pn-param=com.example.shop", "", "shop"}, "c": {";pn-param=office", "", "office"},
		"d": {"", "", ""}, "e": {";pn-param=another", "", ""}, "f": {"", "office", "office"}, "g": {"", "com.example.shop", "shop"},
	} {
		sub, err := sim.MakeSubscription(keys[c.app])
		if err != nil {
			t.Fatal(err)
		}
		contact, headers := "<sip:"+user+"@192.0.2.1;pn-provider=webpush;pn-prid="+sub.URL+c.param+">", obj{}
		if c.mpush != "" {
			contact, headers = "<sip:"+user+"@192.0.2.1>", obj{"X-MPUSH": "w:" + c.mpush + ":" + sub.URL + "|" + sub.P256dh + "|" + sub.Auth}
		}
		want := `*;+sip.pns="webpush";+sip.vapid="` + keys[c.app] + `"`
		if res := r.register(user+"@example.com", contact, obj{"headers": headers}); strings.Join(res.FeatureCaps, "") != want || res.Status != "stored" {
			t.Errorf("%+v: %+v, want %s", c, res, want)
		}
		got := make(chan *webpushsim.Message, 1)
		sim.OnDeliver(sub.URL, func(m *webpushsim.Message) { got <- m })
		var sent struct{ ID string }
		r.call("push.send", obj{"aor": user + "@example.com", "kind": "custom", "title": "t"}, &sent)
		if m := <-got; m.Subject != "mailto:x"+c.app+"@example.com" { // only the subscription's own key is taken
			t.Errorf("%+v: pushed by %s", c, m.Subject)
		}
		if c.mpush == "" {
			res := r.register(user+"@example.com", "<sip:q"+user+"@192.0.2.1;pn-provider=webpush"+c.param+">", obj{"call_id": "q" + user})
			if strings.Join(res.FeatureCaps, "") != want {
				t.Errorf("asked with %q: %v, want %s", c.param, res.FeatureCaps, want)
			}
		}
	}
}
