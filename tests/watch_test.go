package tests

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/stack"
)

// make watch shows calls in a Prometheus, says that there is no Grafana, and leaves
// nothing behind.
func TestWatch(t *testing.T) {
	found(t, "prometheus")
	found(t, "kamailio")
	lab := filepath.Join(t.TempDir(), "sipwake-lab")
	if out, err := exec.Command("go", "build", "-o", lab, "../cmd/sipwake-lab").CombinedOutput(); err != nil {
		t.Fatalf("cannot build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, lab, "watch", "--sipwake", must2(program())(t), "--grafana", "../grafana")
	cmd.Env = append(os.Environ(), "PATH="+t.TempDir()) // no Grafana there
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := ""
	for lines := bufio.NewScanner(out); !strings.Contains(said, "until Ctrl-C") && lines.Scan(); {
		said += lines.Text() + "\n"
	}
	url := regexp.MustCompile(`Prometheus +(http://[0-9.:]+)`).FindStringSubmatch(said)
	if url == nil || !strings.Contains(said, "Debian has no package of it") {
		t.Fatalf("it says %q", said)
	}
	p := prometheus{t, url[1]}
	eventually(t, "a phone was woken", func() bool { return p.hasData(`sum(sipwake_wake_devices_total{result="woken"}) > 0`) })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if _, err := http.Get(url[1]); err == nil {
		t.Error("Prometheus runs on")
	}
}

// What Grafana is started with is what the folder has, with the Prometheus that is
// there.
func TestWatchGrafana(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho \"$@\"\nenv | grep ^GF_\ncat \"$GF_PATHS_PROVISIONING\"/*/*.yml\nexit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "grafana"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	_, err := stack.StartGrafana(t.Context(), stack.GrafanaConfig{Folder: "../grafana", Prometheus: "http://192.0.2.1:9", Interval: "3s"})
	if err == nil {
		t.Fatal("a Grafana that ends at once was started")
	}
	for _, want := range []string{"server --homepath /usr/share/grafana", "GF_AUTH_ANONYMOUS_ENABLED=true", "url: http://192.0.2.1:9",
		"timeInterval: 3s", "/grafana/dashboards\n"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("there is no %q in %v", want, err)
		}
	}
}
