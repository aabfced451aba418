package tests

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
	"github.com/sipwake/sipwake/internal/lab/stack"
	"github.com/sipwake/sipwake/kamailio/cfg"
)

// The README's lines for kamailio.cfg, put into one and run.

func asREADMESays(t *testing.T, script string) string {
	t.Helper()
	return asDocSays(t, "README.md", script)
}

// asDocSays puts a document's lines into a kamailio.cfg, as its reader would:
// each block has lines to find, to take out and to put in.
func asDocSays(t *testing.T, doc, script string) string {
	t.Helper()
	for i, block := range docBlocks(t, doc, "diff") {
		var from, to strings.Builder
		for line := range strings.Lines(block) {
			if line[0] != '+' {
				from.WriteString(line[1:])
			}
			if line[0] != '-' {
				to.WriteString(line[1:])
			}
		}
		if n := strings.Count(script, "\n"+from.String()); n != 1 {
			t.Fatalf("block %d of %s fits in %d places", i+1, doc, n)
		}
		script = strings.Replace(script, "\n"+from.String(), "\n"+to.String(), 1)
	}
	return script
}

// The README's lines make a script of a kamailio.cfg that knows nothing of
// sipwake: of one of ours, and of the one that comes with Kamailio, where it is.
func TestDocsWiringParses(t *testing.T) {
	t.Parallel()
	kamailio().found(t)
	program := must2(stack.Find("kamailio"))(t)
	scripts := map[string]string{"ours": readDoc(t, "tests/testdata/existing-kamailio.cfg")}
	cache, err := stack.Cache()
	if err != nil {
		t.Fatal(err)
	}
	stock, err := filepath.Glob(cache + "/*/etc/kamailio/kamailio.cfg")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stock {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		scripts["Kamailio's own"] = string(text)
	}
	include, err := cfg.Files.ReadFile("sipwake.cfg")
	if err != nil {
		t.Fatal(err)
	}
	for name, script := range scripts {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "sipwake.cfg"), include, 0o600); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "kamailio.cfg")
		one := asREADMESays(t, script)
		for nodes, script := range map[string]string{"one node": one, "several nodes": asDocSays(t, "docs/CLUSTER.md", one)} {
			if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(program, "-c", "-M", "32", "-f", file, "-Y", dir).CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte("config file ok")) {
				t.Errorf("%s, %s: %v\n%s", name, nodes, err, out)
			}
		}
	}
}

// A call through such a proxy, one that rewrites Contacts for NAT, wakes a phone,
// and no user sees the push token of another.
func TestDocsWiringWorks(t *testing.T) {
	t.Parallel()
	kamailio().found(t)
	script := asREADMESays(t, readDoc(t, "tests/testdata/existing-kamailio.cfg"))
	// The addresses and the secret of this test instead of the README's.
	script = regexp.MustCompile(`(?m)^#!define SIPWAKE_.*\n`).ReplaceAllString(script, "")
	wokenThrough(t, script, map[string]string{"SIPWAKE_REPLY_HOOK": "NATREPLY"}, true)
}

// wokenThrough makes a call through a Kamailio with the script: it wakes a phone, no
// user sees the push token of another, and the call ends well. alias says that the
// script rewrites Contacts.
func wokenThrough(t *testing.T, script string, defines map[string]string, alias bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r := newRig(t, rigOptions{})
	k, err := stack.StartKamailio(ctx, stack.KamailioConfig{Node: nodeID, URL: r.url, Secret: nodeSecret, Script: script,
		Defines: defines})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Stop()
	defer stop(t, r.app) // before the node that it signals
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	r.write("sipwake.yml", strings.Replace(string(text), r.node.url(), "http://"+k.SIPAddress(), 1))
	r.reload()

	token := apnsToken(1)
	sleeper, err := phone.New(phone.Config{User: "bob", Domain: "example.com", Proxy: k.SIPAddress(), Behaviour: phone.Answer(0),
		ContactParams: fmt.Sprintf(";pn-provider=apns;pn-param=%s.%s.voip;pn-prid=%s", team, bundle, token)})
	if err != nil {
		t.Fatal(err)
	}
	defer sleeper.Close()
	r.apns.OnDeliver(token, func(payload []byte, _ http.Header) { sleeper.OnPush(payload) })
	// It registers, sipwake knows it, it goes, sipwake knows that too.
	for _, expires := range []time.Duration{time.Hour, 0} {
		if res, err := sleeper.Register(ctx, expires); err != nil || res.Code() != 200 {
			t.Fatalf("REGISTER: %v", err)
		}
		eventually(t, "sipwake knows of the REGISTER", func() bool {
			var res struct {
				Bindings []struct {
					Expires time.Time `json:"expires_at"`
				}
			}
			r.call("binding.list", obj{"aor": "bob@example.com"}, &res)
			return len(res.Bindings) == 1 && res.Bindings[0].Expires.After(time.Now()) == (expires > 0)
		})
	}
	sleeper.Sleep()
	caller, err := phone.New(phone.Config{User: "alice", Domain: "example.com", Proxy: k.SIPAddress(),
		ContactParams: ";pn-provider=fcm;pn-param=" + project + ";pn-prid=token-of-alice"})
	if err != nil {
		t.Fatal(err)
	}
	defer caller.Close()
	call, err := caller.Invite(ctx, "bob", phone.InviteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	final, err := call.Final(ctx)
	if err != nil || final.Code != 200 || r.pushes(token) != 1 {
		t.Fatalf("the caller got %d, %v, after %d pushes\n%s", final.Code, err, r.pushes(token), k.LogTail())
	}
	invite, err := sleeper.WaitInvite(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, contact := range []string{invite.Request.Header("Contact"), final.Message.Header("Contact")} {
		if strings.Contains(contact, "pn-") || alias && !strings.Contains(contact, ";alias=") {
			t.Errorf("another user sees the Contact %s", contact)
		}
	}
	if _, err := call.Bye(ctx); err != nil {
		t.Error(err)
	}
}
