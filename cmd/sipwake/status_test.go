package main

import (
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestStatus(t *testing.T) {
	dir := configured(t)
	s := serve(t, dir)
	write(t, dir, "client.yml", []byte("rpc:\n  listen: "+s.rpc+"\noperations:\n  listen: "+s.operations+"\n"))
	got := ok(t, dir, "status", "--config", "client.yml")
	for _, want := range []string{"version   unreleased, up ", "ready     ok\n", "store     local\n", "load      0 of 4\n", "calls     0 open\n",
		"traces    0 calls kept, 0 to write, 0 dropped\n", "node      sip1: un", ", 0 signals answered, 0 failed\n", "app       apns com.example.phone", "breaker closed, 0 queued, 0 in flight\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	var status serviceStatus
	text := ok(t, dir, "status", "--config", "client.yml", "--json")
	if err := json.Unmarshal([]byte(text), &status); err != nil || status.Ready != "ok" || len(status.Nodes) != 1 || status.Nodes[0].ID != "sip1" || status.Nodes[0].State == "" || len(status.Apps) == 0 {
		t.Errorf("%v: %s", err, text)
	}
	if got := ok(t, dir, "health", "--config", "client.yml"); got != "ok\n" {
		t.Errorf("health: %s", got)
	}
	s.signal(syscall.SIGTERM)
	s.status()
	refused(t, dir, "cannot reach sipwake at "+s.operations+" (operations.listen): dial tcp", "health", "--config", "client.yml")
	refused(t, dir, "cannot reach sipwake at "+s.rpc, "status", "--config", "client.yml")
}

// bash completes commands and flags.
func TestCompletion(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	write(t, dir, "completion", []byte(ok(t, dir, "completion", "bash")))
	for words, want := range map[string]string{
		"statu": "status", "bind": "bindings", "trace --fol": "--follow", "bindings sh": "show", "bindings show --j": "--json",
		"bindings --config x.yml li": "list", "trace --last 5 --ou": "--outcome", "completion b": "bash", "ma": "",
	} {
		list := strings.Fields(words)
		cmd := exec.Command("bash", "-c", `. ./completion; COMP_WORDS=(sipwake "$@"); COMP_CWORD=$#; _sipwake; echo "${COMPREPLY[@]}"`, "bash")
		cmd.Args = append(cmd.Args, list...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); got != want || err != nil {
			t.Errorf("%s: %q, want %q, %v", words, got, want, err)
		}
	}
}

// The manual has every command and every flag.
func TestManual(t *testing.T) {
	got := strings.ReplaceAll(ok(t, t.TempDir(), "man"), `\-`, "-")
	for _, want := range []string{".TH SIPWAKE 1", "sipwake bindings show <aor>", "-f, --follow\n", "--since=STRING", "EXIT STATUS"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(got, "sipwake man") {
		t.Error("it has a hidden command")
	}
}
