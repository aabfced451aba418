package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The tenants of the rig: acme has a domain, shop an app in every domain.
const (
	acmeToken = "7c19-token-of-the-tenant-acme"
	shopToken = "90aa-token-of-the-tenant-shop"
	acmeHTTP  = "51de-token-of-acmes-scripts"
)

// newTenants starts a sipwake with two tenants, and these phones: ann@acme.example
// with Android; gus@globex.example with Android and iOS.
func newTenants(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, rigOptions{rpc: "  token_files: [" + writeTemp(t, docToken) + "]\n  tenants:\n" +
		"    - {name: acme, domains: [acme.example], rate_limit: 1000, token_files: [" + writeTemp(t, acmeToken) + "], http_push: {token_file: " + writeTemp(t, acmeHTTP) + "}}\n" +
		"    - {name: shop, apps: [" + bundle + "], rate_limit: 1000, token_files: [" + writeTemp(t, shopToken) + "]}"})
	r.auth = docToken
	r.asleep("ann@acme.example", fcmContact("ann", "fcm-token-ann"))
	r.asleep("gus@globex.example", fcmContact("gus", "fcm-token-gus"))
	r.asleep("gus@globex.example", apnsContact("gus2", apnsToken(7)))
	return r
}

// as calls a method with a token, and returns the whole answer.
func (r *rig) as(token, method string, params any) string {
	r.t.Helper()
	before := r.auth
	defer func() { r.auth = before }()
	r.auth = token
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		r.t.Fatal(err)
	}
	_, answer := r.post(string(body))
	return string(answer)
}

// varies is what differs between two answers to one question.
var varies = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|"\d{4}-\d\d-\d\dT[^"]*"`)

// Every method of the interface is closed to tenants, or answers for another tenant's users,
// devices, calls and pushes as if they did not exist, and does not change them. Add every
// new method here.
func TestTenantsAreApart(t *testing.T) {
	t.Parallel()
	r := newTenants(t)
	var started startResult
	r.call("wake.start", obj{"node": nodeID, "aor": "gus@globex.example", "call_id": "call-of-gus", "call": "b-gus", "kind": "call", "from": "sip:x@example.com"}, &started)
	var sent, many struct{ ID string }
	r.call("push.send", obj{"aor": "gus@globex.example", "kind": "custom", "title": "t", "ttl_s": 3600}, &sent)
	r.call("push.many", obj{"app": project, "kind": "refresh", "rate": 1, "ttl_s": 3600}, &many)
	var before struct {
		Bindings []struct{ Device string }
	}
	r.call("binding.list", obj{"aor": "gus@globex.example"}, &before)
	device := before.Bindings[0].Device

	const none = "11111111-1111-4111-8111-111111111111"
	operator := []obj{{}}
	questions := map[string][]obj{ // of gus; "operator" where no tenant may ask
		"binding.register": operator, "binding.rejected": operator, "binding.import": operator, "wake.start": operator,
		"wake.progress": operator, "wake.end": operator, "upper.result": operator, "upper.returned": operator, "service.load": operator,
		"service.stats": operator, "service.info": operator, "store.backup": operator,
		"binding.list": {{"aor": "gus@globex.example"}, {"token": "fcm-token-gus"}, {"all": true, "search": "gus"}, {"all": true, "provider": "apns"},
			{"aor": "gus@globex.example", "all": true, "app": bundle}},
		"binding.remove": {{"aor": "gus@globex.example"}, {"aor": "gus@globex.example", "device": device}, {"token": "fcm-token-gus"},
			{"aor": "gus@globex.example", "token": "fcm-token-gus"}},
		"binding.export": {{}},
		"wake.trace": {{"aor": "gus@globex.example"}, {"user": "gus"}, {"call_id": "call-of-gus"}, {"device": device}, {"app": project}, {},
			{"aor": "gu@globex.example"}},
		"upper.list":    {{"aor": "gus@globex.example"}, {}},
		"upper.refresh": {{"aor": "gus@globex.example"}},
		"upper.remove":  {{"aor": "gus@globex.example"}},
		"push.send": {{"aor": "gus@globex.example", "kind": "custom", "title": "x"},
			{"token": "fcm-token-gus", "provider": "fcm", "app": project, "kind": "custom"}},
		"push.many":   {{"aors": []string{"gus@globex.example"}, "kind": "custom", "title": "x"}},
		"push.list":   {{}, {"aor": "gus@globex.example"}, {"job": many.ID}, {"app": project, "state": "sent"}},
		"push.relay":  {{"id": "1", "kind": "custom", "provider": "fcm", "app": project, "token": "fcm-token-gus", "values": obj{"title": "x"}}},
		"push.status": {{"id": sent.ID}}, "push.stop": {{"id": many.ID}}, "push.resume": {{"id": many.ID}},
		"rpc.discover": {{}},
	}
	nobody := strings.NewReplacer("gus@globex", "nix@globex", "fcm-token-gus", "fcm-token-nix", `"gus"`, `"nix"`, "call-of-gus", "call-of-nix",
		device, "ffffffff0000", sent.ID, none, many.ID, none, "gu@globex", "ni@globex")
	said := func(question obj, method string) string {
		text, err := json.Marshal(question)
		if err != nil {
			t.Fatal(err)
		}
		other := obj{}
		if err := json.Unmarshal([]byte(nobody.Replace(string(text))), &other); err != nil {
			t.Fatal(err)
		}
		got, want := r.as(acmeToken, method, question), r.as(acmeToken, method, other)
		if method == "push.list" || method == "wake.trace" { // those of acme's own so far
			return ""
		}
		if got, want := varies.ReplaceAllString(nobody.Replace(got), "*"), varies.ReplaceAllString(want, "*"); got != want {
			t.Errorf("%s %s tells\n%s\nand of nobody\n%s", method, text, got, want)
		}
		return got
	}
	for _, m := range openRPCMethods(t) {
		list, known := questions[m.Name]
		if !known {
			t.Errorf("%s: say what a tenant is told of another's", m.Name)
			continue
		}
		closed := m.Callers == "operator"
		if m.Callers != "operator" && m.Callers != "operator, tenants" {
			t.Errorf("%s: x-callers is %q", m.Name, m.Callers)
		}
		for _, q := range list {
			answer := said(q, m.Name)
			if closed != strings.Contains(answer, `"code":-32005`) {
				t.Errorf("%s: closed is %v, and acme got %s", m.Name, closed, answer)
			}
		}
	}
	for method := range questions { // what was asked, all of it: nothing of gus
		for _, q := range questions[method] {
			answer := r.as(acmeToken, method, q)
			for _, secret := range []string{"fcm-token-gus", apnsToken(7), device, "call-of-gus", sent.ID} {
				if strings.Contains(answer, secret) && method != "rpc.discover" {
					t.Errorf("%s %v shows %s: %s", method, q, secret, answer)
				}
			}
		}
	}
	if answer := r.as(acmeToken, "no.such", obj{}); !strings.Contains(answer, `"code":-32005`) {
		t.Errorf("an unknown method: %s", answer)
	}
	var after struct {
		Bindings []struct{ Device string }
	}
	r.call("binding.list", obj{"aor": "gus@globex.example"}, &after)
	if len(after.Bindings) != 2 {
		t.Errorf("gus has %d devices", len(after.Bindings))
	}
	for _, p := range r.fcm.Pushes() {
		if strings.Contains(string(p.Message.Notification), `"x"`) {
			t.Errorf("gus was pushed: %v", p)
		}
	}
	var status struct{ Many struct{ State string } }
	if r.call("push.status", obj{"id": many.ID}, &status); status.Many.State == "stopped" {
		t.Error("acme has stopped the operator's push")
	}
}

// A tenant works with its own users as the operator does with all.
func TestTenantsHaveTheirOwn(t *testing.T) {
	t.Parallel()
	r := newTenants(t)
	for i := range 3 {
		r.asleep(fmt.Sprintf("more%d@acme.example", i), fcmContact(fmt.Sprint("more", i), fmt.Sprint("fcm-token-more-", i)))
	}
	has := func(token, method string, params obj, want ...string) string {
		t.Helper()
		answer := r.as(token, method, params)
		for _, w := range want {
			if not, ok := strings.CutPrefix(w, "!"); ok == strings.Contains(answer, not) {
				t.Errorf("%s %v: %q in %s", method, params, w, answer)
			}
		}
		return answer
	}
	has(acmeToken, "binding.list", obj{"all": true}, "ann@acme.example", "more2@acme.example", "!gus@")
	has(acmeToken, "binding.export", obj{}, "fcm-token-ann", "!gus@")
	has(shopToken, "binding.list", obj{"aor": "gus@globex.example"}, bundle, "!"+project)
	has(shopToken, "binding.export", obj{}, apnsToken(7), "!fcm-token")
	has(shopToken, "upper.list", obj{}, "-32005")

	// Pages: a tenant cannot count others by those that are empty.
	pages, cursor := 0, ""
	for first := true; first || cursor != ""; first = false {
		var page struct{ Result struct{ Cursor string } }
		if err := json.Unmarshal([]byte(has(acmeToken, "binding.list", obj{"all": true, "limit": 2, "cursor": cursor})), &page); err != nil {
			t.Fatal(err)
		}
		if cursor != "" && page.Result.Cursor != "" {
			has(shopToken, "binding.list", obj{"all": true, "cursor": page.Result.Cursor}, `"field":"cursor"`)
		}
		cursor, pages = page.Result.Cursor, pages+1
	}
	if pages > 3 {
		t.Errorf("4 bindings in %d pages of 2", pages)
	}

	has(acmeToken, "push.send", obj{"aor": "ann@acme.example", "kind": "custom"}, `"provider":"fcm"`)
	has(acmeToken, "push.send", obj{"token": "fcm-token-ann", "provider": "fcm", "app": project, "kind": "custom"}, `"state":`)
	has(shopToken, "push.send", obj{"aor": "gus@globex.example", "kind": "custom"}, `"provider":"apns"`, `!"provider":"fcm"`)
	has(shopToken, "push.send", obj{"token": "x", "provider": "fcm", "app": project, "kind": "custom"}, `"field":"app"`)
	has(acmeToken, "push.list", obj{}, "ann@acme.example", "!gus@")
	has(shopToken, "push.list", obj{}, "gus@globex.example", "!ann@")

	var job struct {
		Result struct {
			ID   string
			Many struct {
				State       string
				Users, Sent int
			}
		}
	}
	read := func(answer string) {
		t.Helper()
		if err := json.Unmarshal([]byte(answer), &job); err != nil {
			t.Fatal(err)
		}
	}
	read(has(acmeToken, "push.many", obj{"app": project, "kind": "custom", "title": "all", "rate": 100}))
	eventually(t, "the push to all", func() bool {
		read(has(acmeToken, "push.status", obj{"id": job.Result.ID}))
		return job.Result.Many.State == "ended"
	})
	if job.Result.Many.Users != 4 || job.Result.Many.Sent != 4 {
		t.Errorf("%+v", job.Result)
	}
	read(has(acmeToken, "push.many", obj{"app": project, "kind": "custom", "title": "slow", "rate": 1}))
	read(has(acmeToken, "push.stop", obj{"id": job.Result.ID}, `"stopped"`))
	has(shopToken, "push.resume", obj{"id": job.Result.ID}, `"field":"id"`)
	has(acmeToken, "push.resume", obj{"id": job.Result.ID}, `!"stopped"`)

	var started startResult
	r.call("wake.start", obj{"node": nodeID, "aor": "gus@globex.example", "call_id": "g1", "call": "b1", "kind": "call", "from": "sip:x@example.com"}, &started)
	r.call("wake.start", obj{"node": nodeID, "aor": "ann@acme.example", "call_id": "a1", "call": "b2", "kind": "call", "from": "sip:x@example.com"}, &started)
	has(acmeToken, "wake.trace", obj{"user": "ann"}, `"a1"`, `!"g1"`)
	has(acmeToken, "wake.trace", obj{"limit": 1}, `"a1"`, `!"g1"`)
	has(shopToken, "wake.trace", obj{"aor": "gus@globex.example"}, `"g1"`, bundle, "!"+project)

	has(shopToken, "wake.trace", obj{"aor": "gus@globex.example", "provider": "fcm"}, `!"g1"`) // not what it is not told of

	has(shopToken, "binding.remove", obj{"aor": "gus@globex.example"}, `"removed":1`)
	has(acmeToken, "binding.remove", obj{"aor": "ann@acme.example"}, `"removed":1`)
	has(shopToken, "binding.list", obj{"aor": "gus@globex.example"}, `"reason":"operator"`)
	has(acmeToken, "binding.list", obj{"aor": "gus@globex.example"}, `!"reason"`)
	has(shopToken, "binding.list", obj{"aor": "ann@acme.example"}, `!"reason"`)
	if r.bindings("gus@globex.example") != 1 {
		t.Error("shop has removed what is another's")
	}
	for user, want := range map[string]int{"more1@acme.example": http.StatusOK, "gus@globex.example": http.StatusBadRequest, "nix@globex.example": http.StatusBadRequest} {
		res, err := http.Get(strings.TrimSuffix(r.url, "/rpc") + "/mvapireq/?apientry=sendpush&authkey=" + acmeHTTP + "&user=" + user)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("push by GET to %s: %d", user, res.StatusCode)
		}
	}
}

// Of a domain that tenants share by their apps, each has the registrations at a PBX of
// the users all of whose devices are its own, as it may refresh and remove those alone.
func TestTenantsShareADomain(t *testing.T) {
	t.Parallel()
	const blueToken, greenToken = "2a61-token-of-the-tenant-blue", "b7d0-token-of-the-tenant-green"
	r := newRig(t, rigOptions{more: upperSection(t, ""), rpc: "  token_files: [" + writeTemp(t, docToken) + "]\n  tenants:\n" +
		"    - {name: blue, domains: [both.example], apps: [" + project + "], rate_limit: 1000, token_files: [" + writeTemp(t, blueToken) + "]}\n" +
		"    - {name: green, domains: [both.example], apps: [" + bundle + "], rate_limit: 1000, token_files: [" + writeTemp(t, greenToken) + "]}"})
	r.auth = docToken
	register := func(aor, contact string) {
		t.Helper()
		var res registerResult
		r.call("binding.register", obj{"node": nodeID, "aor": aor, "contact": contact, "call_id": contact, "cseq": 1, "expires": 600,
			"headers": obj{"X-PIID": ha1("x", "y")}, "upper": obj{"granted": "600", "server": "sip:pbx-of-" + aor[:3], "uri": "sip:pbx.example",
				"to": "sip:" + aor, "user": aor[:3], "realm": "pbx.example"}}, &res)
	}
	register("ann@both.example", fcmContact("ann", "fcm-token-ann"))
	register("gus@both.example", apnsContact("gus", apnsToken(7)))
	register("two@both.example", fcmContact("two", "fcm-token-two"))
	register("two@both.example", apnsContact("two2", apnsToken(8)))
	for token, c := range map[string]struct{ own, others string }{blueToken: {"ann", "gus"}, greenToken: {"gus", "ann"}} {
		for user, want := range map[string]bool{c.own: true, c.others: false, "two": false} {
			for _, params := range []obj{{}, {"limit": 1, "aor": user + "@both.example"}} {
				if answer := r.as(token, "upper.list", params); strings.Contains(answer, "pbx-of-"+user) != want {
					t.Errorf("%s: of %s with %v: %s", token, user, params, answer)
				}
			}
			if answer := r.as(token, "upper.refresh", obj{"aor": user + "@both.example"}); strings.Contains(answer, `"found":false`) == want {
				t.Errorf("%s: refresh of %s: %s", token, user, answer)
			}
		}
	}
}

type openRPCMethod struct {
	Name    string `json:"name"`
	Callers string `json:"x-callers"`
}

func openRPCMethods(t *testing.T) []openRPCMethod {
	t.Helper()
	text, err := os.ReadFile("../rpc/openrpc.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct{ Methods []openRPCMethod }
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d.Methods
}
