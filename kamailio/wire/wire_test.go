package wire

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// small is a kamailio.cfg like the one that comes with Kamailio, in few lines.
const small = `#!KAMAILIO
#!define FLT_ACCMISSED 2
#!ifdef WITH_ANTIFLOOD
#!trydef WITH_HTABLE
#!endif
#!ifdef WITH_MULTIDOMAIN
#!endif
loadmodule "tm.so"
#!ifdef WITH_HTABLE
loadmodule "htable.so"
#!endif
#!ifdef WITH_X
#!else
loadmodule "/usr/lib/modules/jansson.so"
#!endif

request_route {
	route(REQINIT);
	route(LOCATION);
}

route[REGISTRAR] {
	if (!is_method("REGISTER")) return;
	if (!save("location")) {
		send_reply_error();
	}
	exit;
}

route[LOCATION] {
	if (!lookup("location")) {
		send_reply("404", "Not Found");
		exit;
	}
	route(RELAY);
}

route[NATMANAGE] {
	return;
}

#!ifdef WITH_JSONRPC
event_route[xhttp:request] {
	xhttp_reply("200", "OK", "text/html", "");
}
#!endif

reply_route {
	return;
}
`

func wired(t *testing.T, text string) Wired {
	t.Helper()
	w, err := File(text, Options{Domain: "example.org", Listen: []string{"udp:192.0.2.1:5060"}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// has checks that the lines follow each other, whatever stands between.
func has(t *testing.T, text string, lines ...string) {
	t.Helper()
	rest := text
	for _, l := range lines {
		_, after, ok := strings.Cut(rest, l+"\n")
		if !ok {
			t.Fatalf("%q is not there in order:\n%s", l, text)
		}
		rest = after
	}
}

func TestFile(t *testing.T) {
	w := wired(t, small)
	if len(w.Missing) != 0 {
		t.Errorf("missing is %q", w.Missing)
	}
	has(t, w.Text,
		`include_file "sipwake-local.cfg"`,
		"#!ifndef WITH_X", "#!define SIPWAKE_HAVE_JANSSON", "#!endif",
		"#!ifdef WITH_HTABLE", "#!define SIPWAKE_HAVE_HTABLE", "#!endif",
		"#!ifdef WITH_MULTIDOMAIN", "#!define SIPWAKE_USE_DOMAIN", "#!else", `#!define SIPWAKE_DOMAIN "example.org"`,
		"#!define SIPWAKE_BRANCH_HOOK NATMANAGE",
		"#!ifdef WITH_JSONRPC", "#!define SIPWAKE_OWN_XHTTP",
		"listen=udp:192.0.2.1:5060",
		`include_file "sipwake.cfg"`,
		"request_route {", "\troute(SIPWAKE_PARK);", "\troute(REQINIT);",
		"\tif (!is_method(\"REGISTER\")) return;", "\troute(SIPWAKE_REGISTER);", "}",
		"\tif (is_method(\"INVITE\")) setflag(FLT_ACCMISSED);", "\troute(SIPWAKE_CALL);", "\tif (!lookup(\"location\")) {",
		"event_route[xhttp:request] {", "\troute(SIPWAKE_HTTP);",
		"reply_route {", "\troute(SIPWAKE_STRIP);")
	if strings.Contains(w.Text, "save(") {
		t.Error("save() is still there")
	}
	if _, err := File(w.Text, Options{}); err == nil {
		t.Error("it is wired twice")
	}
}

// A file that is unlike: what is not found is told.
func TestFileUnlike(t *testing.T) {
	w := wired(t, "listen=udp:192.0.2.1:5060\ntcp_accept_no_cl=yes\nroute{\n\tsave(\"location\");\n\texit;\n}\n")
	if len(w.Missing) != 1 || !strings.Contains(w.Missing[0], "SIPWAKE_CALL") {
		t.Errorf("missing is %q", w.Missing)
	}
	has(t, w.Text, `#!define SIPWAKE_DOMAIN "example.org"`, "\troute(SIPWAKE_REGISTER);", "reply_route {")
	if strings.Contains(w.Text, "\texit;") || strings.Count(w.Text, "listen=") != 1 || strings.Contains(w.Text, "HOOK") {
		t.Errorf("it is\n%s", w.Text)
	}
	w = wired(t, "request_route {\n\tlookup(\"location\");\n}\n")
	if len(w.Missing) != 2 {
		t.Errorf("missing is %q", w.Missing)
	}
	if _, err := File("nothing\n", Options{}); err == nil {
		t.Error("a file without request_route is wired")
	}
}

// What Diff says is what patch does.
func TestDiff(t *testing.T) {
	if Diff("x", "a\n", "a\n") != "" {
		t.Error("the same texts differ")
	}
	patch, err := exec.LookPath("patch")
	if err != nil {
		t.Skip("there is no patch")
	}
	f := func(from, to string) {
		t.Helper()
		dir := t.TempDir()
		name := filepath.Join(dir, "x.cfg")
		if from != "" {
			if err := os.WriteFile(name, []byte(from), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c := exec.Command(patch, "-p0", "--no-backup-if-mismatch", "--fuzz=0")
		c.Dir, c.Stdin = dir, strings.NewReader(Diff("x.cfg", from, to))
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s\n%s", err, out, Diff("x.cfg", from, to))
		}
		got, err := os.ReadFile(name)
		if err != nil || string(got) != to {
			t.Errorf("%v: got\n%s\nwant\n%s", err, got, to)
		}
	}
	f(small, wired(t, small).Text)
	f("", "new\nfile\n")
	f("a\nb\nc\n", "b\nc\nd\n")
	f("a\nb", "a\nb\nc")
	f(strings.Repeat("x\n", 50)+"y\n", "y\n"+strings.Repeat("x\n", 50)+"z\n")
	f("a\n"+strings.Repeat("x\n", 7)+"b\n", strings.Repeat("x\n", 7))
}
