package tests

import (
	"bufio"
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/lab/stack"
)

// labRun is a running command of sipwake-lab.
type labRun struct {
	t       *testing.T
	cmd     *exec.Cmd
	lines   chan string // what it prints
	said    string
	control string // URL
}

// startLab builds sipwake-lab, starts a command of it, and reads until it says that it is up.
func startLab(t *testing.T, up string, args ...string) *labRun {
	t.Helper()
	lab := filepath.Join(t.TempDir(), "sipwake-lab")
	if out, err := exec.Command("go", "build", "-o", lab, "../cmd/sipwake-lab").CombinedOutput(); err != nil {
		t.Fatalf("cannot build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	l := &labRun{t: t, cmd: exec.CommandContext(ctx, lab, args...), lines: make(chan string, 1000)}
	l.cmd.Stderr = os.Stderr
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(l.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			l.lines <- s.Text()
		}
	}()
	l.waitFor(up)
	l.control = l.found(`control +(http://[0-9.:]+)`)
	return l
}

// waitFor reads until it has said the text.
func (l *labRun) waitFor(text string) {
	l.t.Helper()
	for !strings.Contains(l.said, text) {
		line, ok := <-l.lines
		if !ok {
			l.t.Fatalf("it ended without %q: %s", text, l.said)
		}
		l.said += line + "\n"
	}
}

func (l *labRun) found(pattern string) string {
	l.t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(l.said)
	if m == nil {
		l.t.Fatalf("there is no %s in %s", pattern, l.said)
	}
	return m[1]
}

// ask asks the control. It fails unless the answer is 200.
func (l *labRun) ask(method, path string) string {
	l.t.Helper()
	req := must2(http.NewRequest(method, l.control+path, nil))(l.t)
	req.Close = true
	res := must2(http.DefaultClient.Do(req))(l.t)
	defer res.Body.Close()
	text := string(must2(io.ReadAll(res.Body))(l.t))
	if res.StatusCode != http.StatusOK {
		l.t.Fatalf("%s %s: %d %s", method, path, res.StatusCode, text)
	}
	return text
}

// end has it stop as Ctrl-C does.
func (l *labRun) end() {
	l.t.Helper()
	if err := l.cmd.Process.Signal(syscall.SIGINT); err != nil {
		l.t.Fatal(err)
	}
	for line := range l.lines {
		l.said += line + "\n"
	}
	if err := l.cmd.Wait(); err != nil {
		l.t.Errorf("it ended with %v", err)
	}
	if _, err := http.Get(l.control); err == nil {
		l.t.Error("the control runs on")
	}
}

// Whoever has nothing but sipwake trace, or nothing but the pages, finds why each call
// of the lab ended as it did.
func TestLabUp(t *testing.T) {
	t.Parallel()
	found(t, "kamailio")
	sipwake := must2(program())(t)
	dir := t.TempDir()
	l := startLab(t, "until Ctrl-C", "up", "--no-calls", "--sipwake", sipwake, "--dir", dir)
	operations, sip := l.found(`metrics +(http://[0-9.:]+)`), l.found(`SIP +([0-9.:]+)`)
	paged := func(callID, want string) {
		t.Helper()
		res := must2(http.Get(operations + "/call?call_id=" + url.QueryEscape(callID)))(t)
		defer res.Body.Close()
		if text := html.UnescapeString(string(must2(io.ReadAll(res.Body))(t))); !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("the page has no %q: %s", want, text)
		}
	}
	traced := func(callID, want string) {
		t.Helper()
		var out []byte
		eventually(t, callID+": "+want, func() bool {
			out, _ = exec.Command(sipwake, "trace", "--config", filepath.Join(dir, "sipwake.yml"), "--call-id", callID).CombinedOutput()
			return regexp.MustCompile(want).Match(out) || t.Failed()
		})
	}
	f := func(name, to, want string, before ...string) {
		t.Helper()
		for _, path := range before {
			l.ask("POST", path)
		}
		said := l.ask("POST", "/calls/alice/"+to)
		call := regexp.MustCompile(`^call (\d+): .*Call-ID (\S+)`).FindStringSubmatch(said)
		if call == nil {
			t.Fatalf("%s: %q", name, said)
		}
		if name == "cancelled" || name == "answered" || name == "awake" {
			event := map[string]string{"cancelled": "accepted", "answered": "answered", "awake": "answered"}[name]
			if event == "answered" {
				eventually(t, name, func() bool { return strings.Contains(l.ask("GET", "/calls"), "answered, goes on") })
			} else {
				traced(call[2], event)
			}
			l.ask("POST", "/calls/"+call[1]+"/hangup")
		}
		traced(call[2], want)
		paged(call[2], want)
	}
	f("answered", "ivan", `rang (after .*|at once), answered after`)
	f("awake", "walter", `rang (after .*|at once), answered after`)
	f("busy", "anna", `rang after .*, busy after`)
	f("declined", "dina", `rang after .*, declined after`)
	f("cancelled", "cleo", `Apple took the push, the phone never registered; cancelled by the caller`)
	f("deaf", "theo", `Apple took the push, the phone never registered; nobody answered within`)
	f("dead token", "dora", `Apple refused the token: it is gone \(Unregistered\)`)
	f("service down", "fred", `Google could not be reached or failed \(UNAVAILABLE\)`)
	f("service silent", "sven", `the Web Push service did not answer in time`)
	f("credential", "nora", `Apple refused sipwake's own key or certificate \(InvalidProviderToken\)`)
	f("nobody", "nobody", `nobody to wake: no binding`)
	// The output shows what the control changes.
	f("made busy", "ivan", `rang after .*, busy after`, "/phones/ivan/sleep", "/phones/ivan/busy")
	f("dropped", "anna", `rang after .*, declined after`, "/phones/anna/drop", "/phones/anna/decline")
	f("made deaf", "walter", `Apple took the push, the phone never registered`, "/phones/walter/deaf")
	f("all of Google", "anna", `Google could not be reached or failed \(INTERNAL\)`, "/phones/anna/sleep", "/providers/fcm/error")
	f("well again", "anna", `rang after .*, declined after`, "/providers/fcm/works")
	f("one of Apple's", "ivan", `Apple refused the token: it is gone`, "/phones/ivan/wake", "/phones/ivan/sleep", "/phones/ivan/push/unregistered")
	help := l.ask("GET", "/")
	for _, want := range []string{"/phones/ivan/sleep", "theo", "SIP", "trace --config"} {
		if !strings.Contains(help, want) {
			t.Errorf("the help has no %q: %s", want, help)
		}
	}
	l.end()
	if _, err := http.Get(operations); err == nil {
		t.Error("sipwake runs on")
	}
	if out, err := exec.Command("ss", "-Hltn", "src", sip).CombinedOutput(); err == nil && len(out) > 0 {
		t.Errorf("the proxy runs on: %s", out)
	}
}

// Each call of the lab's first round has another verdict.
func TestLabUpCalls(t *testing.T) {
	t.Parallel()
	found(t, "kamailio")
	l := startLab(t, "until Ctrl-C", "up", "--sipwake", must2(program())(t))
	for _, want := range []string{"486", "603", "487", "480", "answered"} {
		if !strings.Contains(l.said, want) {
			t.Errorf("no call with %s: %s", want, l.said)
		}
	}
	l.end()
}

// The push services alone give what sipwake needs, and say each push without its token.
func TestLabProviders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := startLab(t, "until Ctrl-C", "providers", "--dir", dir, "--package", "com.example.phone")
	file := filepath.Join(dir, "sipwake.yml")
	apps := string(must2(os.ReadFile(filepath.Join(dir, "apps.yml")))(t))
	port := func() string { return fmt.Sprintf("127.0.0.1:%d", must2(stack.FreePort("127.0.0.1"))(t)) }
	operations := port()
	own := "rpc:\n  listen: " + port() + "\noperations:\n  listen: " + operations + "\nstore:\n  local:\n    path: " + dir + "/bindings.db\n"
	if err := os.WriteFile(file, []byte(own+apps), 0o600); err != nil {
		t.Fatal(err)
	}
	sipwake := must2(program())(t)
	service := must2(stack.StartSipwake(t.Context(), stack.SipwakeConfig{Program: sipwake, Config: file, Operations: operations}))(t)
	t.Cleanup(service.Stop)
	const token = "fcm-registration-token-of-the-operator"
	push := func() { // that it was refused is an error of the command
		out, err := exec.Command(sipwake, "send", "--config", file, "--provider", "fcm", "--app", "com.example.phone", "--token", token, "--body", "hello").CombinedOutput()
		t.Logf("%v: %s", err, out)
	}
	push()
	l.waitFor("fcm, device 1: ")
	l.waitFor(": taken")
	l.ask("POST", "/devices/1/badrequest")
	push()
	l.waitFor(": refused with 400 INVALID_ARGUMENT")
	l.ask("POST", "/devices/1/works")
	l.ask("POST", "/providers/fcm/unregistered")
	push()
	l.waitFor(": refused with 404 UNREGISTERED")
	if said := l.ask("POST", "/subscriptions"); !strings.HasPrefix(said, "https://127.0.0.1:") {
		t.Errorf("the subscription is %q", said)
	}
	l.end()
	if strings.Contains(l.said, token) {
		t.Errorf("it shows the token: %s", l.said)
	}
}

// What the compose file mounts and builds is there, and the folder's configuration is
// one that the service loads.
func TestCompose(t *testing.T) {
	t.Parallel()
	var file struct {
		Services map[string]struct {
			Build       struct{ Target string }
			NetworkMode string `yaml:"network_mode"`
			Command     any
			Volumes     []string
			Healthcheck struct{ Test []string }
		}
	}
	if err := yaml.Unmarshal([]byte(readDoc(t, "deploy/compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	docker := readDoc(t, "deploy/Dockerfile")
	for name, s := range file.Services {
		if s.NetworkMode != "host" {
			t.Errorf("%s is on network %q", name, s.NetworkMode)
		}
		if s.Build.Target != "" && !strings.Contains(docker, " AS "+s.Build.Target+"\n") {
			t.Errorf("%s: the Dockerfile has no target %s", name, s.Build.Target)
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(strings.Replace(v, "${SIPWAKE_CONFIG:-./compose}", "./compose", 1), ":")
			if _, err := os.Stat(filepath.Join("../deploy", source)); err != nil && strings.HasPrefix(source, ".") {
				t.Errorf("%s mounts what is not there: %v", name, err)
			}
		}
	}
	if test := file.Services["sipwake"].Healthcheck.Test; len(test) != 3 || test[2] != "health" {
		t.Errorf("the health check is %q", test)
	}
	if _, err := config.Load("../deploy/compose/sipwake.yml"); err != nil {
		t.Error(err)
	}
}
