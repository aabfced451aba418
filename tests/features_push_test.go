package tests

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// P11: scripts written for the gateway that is replaced push with its parameters, as
// GET and as POST, if that is switched on, and with a token that opens nothing else.
func TestFeatureP11HTTP(t *testing.T) {
	t.Parallel()
	const token = "2b7f-token-of-the-scripts"
	off := newRig(t, rigOptions{})
	ask := func(r *rig, method, authorization string, args url.Values) (status int, answer string) {
		t.Helper()
		target, body := strings.TrimSuffix(r.url, "/rpc")+"/mvapireq/", io.Reader(nil)
		if method == http.MethodPost {
			body = strings.NewReader(args.Encode())
		} else {
			target += "?" + args.Encode()
		}
		req, err := http.NewRequest(method, target, body)
		if err != nil {
			t.Fatal(err)
		}
		if method == http.MethodPost {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	args := func(pairs ...string) url.Values {
		v := url.Values{"apientry": {"sendpush"}}
		for i := 0; i < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		return v
	}
	if status, _ := ask(off, http.MethodGet, "Bearer "+token, args("user", "bob@example.com")); status != http.StatusNotFound {
		t.Errorf("switched off: %d", status)
	}

	r := newRig(t, rigOptions{rpc: "  token_files: [" + writeTemp(t, docToken) + "]\n  http_push: {token_file: " + writeTemp(t, token) + ", domain: example.com}"})
	r.auth = docToken
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	for what, c := range map[string]struct {
		method, auth string
		args         url.Values
		status       int
		answer       string
	}{
		"no token":      {http.MethodGet, "", args("user", "bob"), 401, "ERROR: not authorised\n"},
		"the RPC token": {http.MethodGet, "Bearer " + docToken, args("user", "bob"), 401, ""},
		"a wrong key":   {http.MethodGet, "Bearer " + token, args("user", "bob", "authkey", "x"), 401, ""},
		"another entry": {http.MethodGet, "Bearer " + token, url.Values{"apientry": {"newuser"}}, 400, "ERROR: invalid params: apientry"},
		"a bad kind":    {http.MethodGet, "Bearer " + token, args("user", "bob", "kind", "5"), 400, "ERROR: invalid params: kind"},
		"nobody":        {http.MethodGet, "Bearer " + token, args("title", "x"), 400, "ERROR: invalid params: user"},
		"no device":     {http.MethodGet, "Bearer " + token, args("user", "carol"), 400, "ERROR: invalid params: user"},
		"PUT":           {http.MethodPut, "Bearer " + token, args("user", "bob"), 405, ""},
		"a user":        {http.MethodGet, "", args("user", "bob", "authkey", token, "from_user", "1001", "type", "0", "title", "Ring"), 200, "OK "},
		"a form":        {http.MethodPost, "Bearer " + token, args("user", "bob@example.com", "kind", "1", "from_user", "1002", "message", "form text"), 200, "OK "},
		"an app's token": {http.MethodGet, "Bearer " + token, args("app", "org.example.phone", "token", "fcm-token-other", "title", "Hi",
			"body", "to a token"), 200, "OK "},
		"an iOS token": {http.MethodGet, "Bearer " + token, args("app", bundle, "token", apnsToken(1), "kind", "0", "from_user", "1003"), 200, "OK "},
	} {
		status, answer := ask(r, c.method, c.auth, c.args)
		if status != c.status || !strings.HasPrefix(answer, c.answer) || strings.Contains(answer, token) {
			t.Errorf("%s: %d %s", what, status, answer)
		}
	}
	// The general names of that gateway's interface, with what else its examples send; its
	// path without the slash; a body of JSON.
	general := args("bnum", "bob", "anum", "1004", "txt", "general names", "authkey", token, "authid", "script", "authmd5", "0f", "now", "415")
	if status, answer := ask(r, http.MethodGet, "", general); status != 200 || !strings.HasPrefix(answer, "OK ") {
		t.Errorf("general names: %d %s", status, answer)
	}
	url := strings.TrimSuffix(r.url, "/rpc") + "/mvapireq"
	post := func(path, body, auth string, want int, prefix string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
		req.Header.Set("Authorization", auth)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if text, err := io.ReadAll(res.Body); err != nil || res.StatusCode != want || !strings.HasPrefix(string(text), prefix) {
			t.Errorf("%s: %d %s", body, res.StatusCode, text)
		}
	}
	post("", `{"apientry":"sendpush","authkey":"`+token+`","user":"bob","type":3,"from_user":1005,"message":"as \"JSON\"","more":{"a":[1]}}`, "", 200, "OK ")
	post("/", `{"apientry":"sendpush","user":"bob"`, "Bearer "+token, 400, "ERROR: ")
	post("/", `{"apientry":"sendpush","user":"bob","authkey":"x"}`, "Bearer "+token, 401, "")
	eventually(t, "all pushes", func() bool {
		return r.fcmPushes("fcm-token-bob-1") == 4 && r.fcmPushes("fcm-token-other") == 1 && r.pushes(apnsToken(1)) == 1
	})
	var said strings.Builder
	for _, p := range r.fcm.Pushes() {
		said.WriteString(p.Message.Data["ntype"] + p.Message.Data["nfrom"] + string(p.Message.Notification) + "\n")
	}
	for _, want := range []string{"01001", "11002", "form text", "to a token", "31004", "general names", "31005", `as \"JSON\"`} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("no push has %q: %s", want, said.String())
		}
	}
	if p := r.apns.Pushes(); len(p) != 1 || p[0].PushType != "voip" || !strings.Contains(string(p[0].Payload), "1003") {
		t.Errorf("the iPhone: %+v", p)
	}
	r.auth = token // it opens nothing else
	if status, _ := r.post(`{"jsonrpc":"2.0","id":1,"method":"service.info"}`); status != http.StatusUnauthorized {
		t.Errorf("RPC with the token of scripts: %d", status)
	}
}
