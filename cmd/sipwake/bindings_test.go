package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
)

// ok runs a command that must succeed and returns what it prints.
func ok(t *testing.T, dir string, args ...string) string {
	t.Helper()
	stdout, stderr, status := sipwake(t, dir, args...)
	// What takes long shows its progress.
	if status != 0 || stderr != "" && !progressLines.MatchString(stderr) {
		t.Fatalf("%v: status %d: %s%s", args, status, stdout, stderr)
	}
	return stdout
}

var progressLines = regexp.MustCompile(`\A(\d+ bindings [a-z, ]+\n)+\z`)

// refused runs a command that must fail with the message.
func refused(t *testing.T, dir, want string, args ...string) {
	t.Helper()
	stdout, stderr, status := sipwake(t, dir, args...)
	if status != 1 || !strings.Contains(stderr, want) {
		t.Errorf("%v: status %d: %s%s, want %q", args, status, stdout, stderr, want)
	}
}

func voipToken(n int) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(fmt.Sprint("voip", n)))) }

// bind registers n phones, and users as many.
func (s *service) bind(n int) {
	s.t.Helper()
	for i := range n {
		s.call("binding.register", map[string]any{"node": "sip1", "aor": fmt.Sprintf("user%d@example.com", i), "call_id": fmt.Sprint("r", i),
			"cseq": 1, "expires": 600, "source": "udp:192.0.2.7:5070", "user_agent": "phone/1", "contact": fmt.Sprintf(
				"<sip:user%d@192.0.2.7;pn-provider=apns;pn-param=ABCDE12345.com.example.phone.voip;pn-prid=%s>", i, voipToken(i+1))}, nil)
	}
}

// More bindings than two pages hold, from one sipwake to another.
func TestBindings(t *testing.T) {
	dir := configured(t)
	withToken(t, dir)
	s := serve(t, dir)
	s.atWithToken("client.yml")
	b := func(args ...string) []string {
		return append([]string{"bindings", "--config", "client.yml"}, args...)
	}
	if got := ok(t, dir, b("list", "--all")...); got != "no binding\n" {
		t.Errorf("list of nothing: %s", got)
	}
	const n = 1234
	s.bind(n)
	all := ok(t, dir, b("list", "--all")...)
	for i := range n {
		if c := strings.Count(all, fmt.Sprintf("\nuser%d@example.com ", i)); c != 1 {
			t.Fatalf("user%d is listed %d times", i, c)
		}
	}
	device := `[0-9a-f]{20}`
	one := ok(t, dir, b("list", "--aor", "User7@example.com")...)
	m := regexp.MustCompile(`\AAOR +DEVICE +PROVIDER +APP +REGISTERED +NODE\nuser7@example.com +(` + device + `) +apns +com.example.phone +\S+ +sip1\n\z`).FindStringSubmatch(one)
	if m == nil {
		t.Fatalf("list of one: %s", one)
	}
	for _, c := range []struct {
		args string
		want int
	}{{"--app com.example.phone", n + 1}, {"--provider apns --search SER12", 45 + 1}, {"--provider fcm", 1}, {"--app no.such", 1}, {"--aor user7@example.com --provider apns", 2}} {
		if got := ok(t, dir, b(append([]string{"list"}, strings.Fields(c.args)...)...)...); strings.Count(got, "\n") != c.want {
			t.Errorf("list %s: %.300s", c.args, got)
		}
	}
	refused(t, dir, "give --aor", b("list")...)
	shown := ok(t, dir, b("show", "user7@example.com")...)
	for _, want := range []string{"user7@example.com  " + m[1], "phone/1", "udp:192.0.2.7:5070", "token:"} {
		if !strings.Contains(shown, want) {
			t.Errorf("show has no %q: %s", want, shown)
		}
	}
	if part := ok(t, dir, b("show", "Ser1233")...); !strings.HasPrefix(part, "user1233@example.com  ") {
		t.Errorf("show by a part: %s", part)
	}
	refused(t, dir, "users or more have \"user1\" in their names, such as user1", b("show", "user1")...)
	refused(t, dir, "no binding", b("show", "carol")...)
	var object struct {
		AOR      string
		Bindings []struct{ Device string }
	}
	asJSON := ok(t, dir, b("show", "--json", "user7@example.com")...)
	if err := json.Unmarshal([]byte(asJSON), &object); err != nil || object.AOR != "user7@example.com" || len(object.Bindings) != 1 {
		t.Errorf("%v: %s", err, asJSON)
	}
	lines := ok(t, dir, b("list", "--json", "--all")...)
	if n := strings.Count(lines, "\n"); n != 1234 || !strings.Contains(lines, `"device":"`+m[1]+`"`) {
		t.Errorf("%d lines of JSON", n)
	}
	for _, text := range []string{all, one, shown, asJSON, lines} {
		if strings.Contains(text, voipToken(8)) {
			t.Error("a list shows a token")
		}
	}

	// To another sipwake and back.
	file := filepath.Join(dir, "bindings.jsonl")
	if got := ok(t, dir, b("export", "bindings.jsonl")...); got != fmt.Sprintf("bindings.jsonl: %d bindings\n", n) {
		t.Errorf("export: %s", got)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v: others can read the tokens: %v", info, err)
	}
	other := configured(t)
	withToken(t, other)
	second := serve(t, other)
	second.atWithToken("client.yml")
	if got := ok(t, other, b("import", file)...); got != fmt.Sprintf("%s: %d bindings, %d stored, 0 known already\n", file, n, n) {
		t.Errorf("import: %s", got)
	}
	if got := ok(t, other, b("import", file)...); got != fmt.Sprintf("%s: %d bindings, 0 stored, %d known already\n", file, n, n) {
		t.Errorf("import again: %s", got)
	}
	ok(t, other, b("export", "again.jsonl")...)
	if a, b := sorted(t, file), sorted(t, filepath.Join(other, "again.jsonl")); a != b {
		t.Errorf("not the same after export, import and export:\n%.300s\n%.300s", a, b)
	}
	// They sleep: a call is pushed, not signalled.
	var res struct{ Outcome string }
	second.call("wake.start", map[string]any{"node": "sip1", "aor": "user7@example.com", "call_id": "c", "call": "c", "kind": "call"}, &res)
	if res.Outcome != "pushing" {
		t.Errorf("a call for an imported phone: %s", res.Outcome)
	}

	if got := ok(t, dir, b("remove", "--aor", "user7@example.com", "--device", m[1])...); got != "removed: 1\n" {
		t.Errorf("remove: %s", got)
	}
	gone, stderr, status := sipwake(t, dir, b("show", "user7@example.com")...)
	if !strings.Contains(stderr, "sipwake: no binding; did you mean user70@example.com or user71@example.com or user72@example.com?\n") || status != 1 {
		t.Errorf("status %d: %s", status, stderr)
	}
	if line := regexp.MustCompile(`^removed \d{4}-\S+ operator apns com\.example\.phone \(device ` + m[1] + `\)\n$`); !line.MatchString(gone) {
		t.Errorf("show of a user without bindings: %s", gone)
	}
	if got := ok(t, dir, b("remove", "--token", voipToken(9))...); got != "removed: 1\n" {
		t.Errorf("remove by token: %s", got)
	}
	refused(t, dir, "no such binding", b("remove", "--aor", "user7@example.com")...)
	refused(t, dir, "give --aor", b("remove")...)
	if strings.Contains(s.said(), voipToken(8)) || strings.Contains(second.said(), voipToken(8)) {
		t.Error("a token is in the log")
	}
}

// Without a token everything works that shows none of the phones', and what does
// not says what to do. Then it does, with a reload.
func TestBindingsWantAToken(t *testing.T) {
	dir := configured(t)
	s := serve(t, dir)
	s.at("client.yml")
	s.bind(1)
	if got := ok(t, dir, "bindings", "--config", "client.yml", "list", "--all"); !strings.Contains(got, "user0@example.com") {
		t.Errorf("list: %s", got)
	}
	for _, command := range []string{"export", "import"} {
		write(t, dir, "file", []byte("{}\n"))
		_, stderr, status := sipwake(t, dir, "bindings", "--config", "client.yml", command, "file")
		for _, want := range []string{"rpc.token_files", "on this machine too", "SIPWAKE_TOKEN", "reload"} {
			if status != 1 || !strings.Contains(stderr, want) {
				t.Errorf("%s: status %d, no %q in %s", command, status, want, stderr)
			}
		}
	}
	withToken(t, dir)
	s.signal(syscall.SIGHUP)
	s.waitFor("configuration reloaded")
	s.atWithToken("client.yml")
	if got := ok(t, dir, "bindings", "--config", "client.yml", "export", "file"); got != "file: 1 bindings\n" {
		t.Errorf("export: %s", got)
	}
}

func sorted(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// A bad file is refused, with the place and without the contents.
func TestBindingsImportBadFile(t *testing.T) {
	dir := configured(t)
	withToken(t, dir)
	s := serve(t, dir)
	s.atWithToken("client.yml")
	good := `{"aor":"bob@example.com","device":"d","provider":"fcm","app":"example-phone","tokens":[{"token":"hunter2-token"}],` +
		`"contact":"sip:bob@192.0.2.7","call_id":"c","cseq":1,"node":"sip1","registered_at":"2026-01-02T03:04:05Z"}`
	for name, c := range map[string][2]string{
		"not JSON":       {good + "\nhunter2-token", "cannot read line 2 of bad: it is not JSON"},
		"no token":       {strings.Replace(good, `{"token":"hunter2-token"}`, "", 1), "cannot import lines 1 to 1 of bad: sipwake at " + s.rpc + " (rpc.listen of client.yml) answered: invalid params: bindings[0].tokens: is missing"},
		"no aor":         {good + "\n" + strings.Replace(good, "bob@example.com", "", 1), "bindings[1].aor: is missing"},
		"wrong type":     {strings.Replace(good, `"d"`, "5", 1), "bindings: is not a list of bindings"},
		"another object": {`{"token":"hunter2-token"}`, "bindings[0].aor: is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, dir, "bad", []byte(c[0]))
			_, stderr, status := sipwake(t, dir, "bindings", "--config", "client.yml", "import", "bad")
			if status != 1 || !strings.Contains(stderr, c[1]) || strings.Contains(stderr, "hunter2") {
				t.Errorf("status %d: %s, want %s", status, stderr, c[1])
			}
			if got := ok(t, dir, "bindings", "--config", "client.yml", "list", "--all"); got != "no binding\n" {
				t.Errorf("stored: %s", got)
			}
		})
	}
}

func TestSend(t *testing.T) {
	fcm, err := fcmsim.Start(fcmsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer fcm.Close()
	dir := configured(t)
	account, err := fcm.MakeAccount(dir, "example-phone")
	if err != nil {
		t.Fatal(err)
	}
	edit(t, dir, "credentials_file: account.json", "credentials_file: "+account+"\n    endpoint: "+fcm.URL()+"\n    ca_file: "+write(t, dir, "fcm-ca.pem", fcm.CA()))
	s := serve(t, dir)
	s.at("client.yml")
	for i := range 2 {
		s.call("binding.register", map[string]any{"node": "sip1", "aor": "bob@example.com", "call_id": fmt.Sprint("r", i), "cseq": 1, "expires": 600,
			"contact": fmt.Sprintf("<sip:bob@192.0.2.7;pn-provider=fcm;pn-param=example-phone;pn-prid=fcm-token-bob-%d>", i)}, nil)
	}
	fcm.Behave("fcm-token-bob-1", fcmsim.Unregistered())
	send := func(args ...string) []string { return append([]string{"send", "--config", "client.yml"}, args...) }

	stdout, stderr, status := sipwake(t, dir, send("--aor", "bob@example.com", "--title", "Hello", "--body", "World", "--data", "page=7")...)
	row := regexp.MustCompile(`\A([0-9a-f-]{36})  custom bob@example.com\n(?:[0-9a-f]{20}  fcm  (?:sent    accepted|failed  token_dead) ?\S*\n){2}\z`).FindStringSubmatch(stdout)
	if row == nil || status != 1 || stderr != "sipwake: 1 of 2 devices failed\n" {
		t.Fatalf("status %d:\n%s%s", status, stdout, stderr)
	}
	again, _, status := sipwake(t, dir, send("--status", row[1])...)
	if again != stdout || status != 1 {
		t.Errorf("--status: %d:\n%s", status, again)
	}
	delivered := false
	for _, p := range fcm.Pushes() {
		delivered = delivered || p.Status == 200 && p.Message.Data["page"] == "7" && strings.Contains(string(p.Message.Notification), "World")
	}
	if !delivered {
		t.Error("not what was asked for")
	}
	got := ok(t, dir, send("--token", "fcm-token-other", "--provider", "fcm", "--app", "example-phone", "--kind", "refresh")...)
	if !strings.Contains(got, "sent  accepted") {
		t.Errorf("to a token: %s", got)
	}
	stdout, stderr, status = sipwake(t, dir, send("--token", "fcm-token-other", "--provider", "fcm", "--app", "example-phone", "--kind", "call",
		"--from", "1001", "--display", "Alice")...)
	if status != 0 || !strings.Contains(stdout, "sent  accepted") || !strings.Contains(stderr, "the phone will ring") {
		t.Errorf("a call: status %d:\n%s%s", status, stdout, stderr)
	}
	rang := slices.ContainsFunc(fcm.Pushes(), func(p fcmsim.Push) bool {
		return p.Message.Data["ntype"] == "0" && p.Message.Data["nfrom"] == "1001" && p.Message.Data["ncallid"] == strings.Fields(stdout)[0]
	})
	if !rang {
		t.Errorf("no push says who calls: %+v", fcm.Pushes())
	}
	users := write(t, dir, "users", []byte("bob@example.com\n\nnobody@example.com\n"))
	many := ok(t, dir, "send-many", "--config", "client.yml", "--users", users, "--title", "All", "--rate", "1000")
	if !strings.Contains(many, "\nended: 2 of 2 users, 1 without a device; ") {
		t.Errorf("send-many: %s", many)
	}
	job := strings.Fields(many)[0]
	if got := ok(t, dir, "pushes", "--config", "client.yml", "--job", job); !regexp.MustCompile(
		`\AID +KIND +AOR +APP +STATE +REASON\n\S+ +custom +bob@example.com +example-phone +(sent|queued) .*\n\z`).MatchString(got) {
		t.Errorf("pushes of the job: %s", got)
	}
	if got := ok(t, dir, "pushes", "--config", "client.yml"); !regexp.MustCompile(job+` +custom +2 of 2 users +ended`).MatchString(got) || !strings.Contains(got, row[1]) {
		t.Errorf("pushes: %s", got)
	}
	if got := ok(t, dir, "pushes", "--config", "client.yml", "--state", "failed"); strings.Count(got, "\n") != 2 || !strings.Contains(got, "failed  token_dead") {
		t.Errorf("failed pushes: %s", got)
	}
	everyone := ok(t, dir, "send-many", "--config", "client.yml", "--everyone", "--app", "example-phone", "--kind", "1", "--body", "x")
	if !strings.Contains(everyone, "\nended: 1 of 1 users, 0 without a device; ") {
		t.Errorf("send-many --everyone: %s", everyone)
	}
	if got := ok(t, dir, "stats", "--config", "client.yml"); !regexp.MustCompile(`(?m)^REGISTERs +2 stored\n[^$]*^fcm example-phone +\d+ bindings; pushes: .*1 token_dead$`).MatchString(got) {
		t.Errorf("stats: %s", got)
	}
	slow := strings.TrimSpace(ok(t, dir, "send-many", "--config", "client.yml", "--users", users, "--rate", "1", "--detach"))
	if got := ok(t, dir, "send-many", "--config", "client.yml", "--stop", slow); !strings.HasPrefix(got, "stopped: ") {
		t.Errorf("send-many --stop: %s", got)
	}
	if got := ok(t, dir, "send-many", "--config", "client.yml", "--status", slow); !strings.HasPrefix(got, "stopped: ") {
		t.Errorf("send-many --status: %s", got)
	}
	if got := ok(t, dir, "send-many", "--config", "client.yml", "--resume", slow); strings.HasPrefix(got, "stopped: ") {
		t.Errorf("send-many --resume: %s", got)
	}
	if got, _, _ := sipwake(t, dir, "send-many", "--config", "client.yml", "--status", slow); !strings.HasPrefix(got, "ended: 2 of 2 users, 1 ") {
		t.Errorf("send-many that went on: %s", got)
	}
	refused(t, dir, "id: is not known", "send-many", "--config", "client.yml", "--stop", "none")
	long := filepath.Join(dir, "long")
	write(t, dir, "long", []byte(strings.Repeat("nobody@example.com\n", 1000)+"no user\n"))
	refused(t, dir, "the first 1000 of 1001 users were begun", "send-many", "--config", "client.yml", "--users", long, "--detach")
	refused(t, dir, "give --app", "send-many", "--config", "client.yml", "--everyone")
	refused(t, dir, "has no device that can be pushed", send("--aor", "nobody@example.com")...)
	refused(t, dir, "id: is not known", send("--status", "none")...)
	refused(t, dir, "give --aor, --token or --status", send()...)
}
