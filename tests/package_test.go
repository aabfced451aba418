package tests

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/leak"
	"github.com/sipwake/sipwake/internal/lab/stack"
)

// The Debian package is installed in a copy of this system: a temporary overlay on its root,
// in separate namespaces for mounts and network. So the real dpkg runs the real scripts,
// and nothing on the host changes.

// version of a tag or a commit, in the order in which they supersede each other.
func TestPackageVersions(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip(err)
	}
	last := ""
	for _, describe := range []string{"b349c35", "v1.2.0-rc-1", "v1.2.0-rc.2", "v1.2.0-rc.2-7-gb349c35", "v1.2.0",
		"v1.2.0-dirty", "v1.2.0-7-gb349c35", "v1.2.0-7-gb349c35-dirty", "v1.2.0-11-g1234567", "v1.10.0"} {
		out, err := exec.Command("../deploy/deb/version.sh", describe, "202611220300").Output()
		version := strings.TrimSpace(string(out))
		if err != nil || exec.Command("dpkg", "--validate-version", version).Run() != nil {
			t.Fatalf("%s: %q, %v", describe, version, err)
		}
		if last != "" && exec.Command("dpkg", "--compare-versions", last, "lt", version).Run() != nil {
			t.Errorf("%s (%s) does not come after %s", version, describe, last)
		}
		last = version
	}
	for _, bad := range []string{"release", "v", "v1.2_3", "v1.2.3; true"} {
		if out, err := exec.Command("../deploy/deb/version.sh", bad).Output(); err == nil {
			t.Errorf("%s: %s", bad, out)
		}
	}
}

// Install, start, upgrade over an edited configuration, remove, purge.
func TestPackage(t *testing.T) {
	t.Parallel()
	deb := buildPackage(t)
	h := newCopyOfHost(t)
	must := func(args ...string) string { t.Helper(); return h.must(args...) }
	h.share("one.deb", deb)
	must("dpkg", "--install", "/mnt/one.deb")
	h.expectFiles(
		"/usr/bin/sipwake root:root 755", "/etc/sipwake root:sipwake 750", "/etc/sipwake/sipwake.yml root:sipwake 640",
		"/etc/sipwake/rpc.token root:sipwake 640", "/var/lib/sipwake sipwake:sipwake 750", "/usr/share/sipwake/kamailio/sipwake.cfg root:root 644",
		"/usr/share/sipwake/grafana/rules/alerts.yml root:root 644", "/usr/share/sipwake/templates/linphone-ios/call_voip.json root:root 644", "/usr/share/sipwake/grafana/dashboards/sipwake-on-call.json root:root 644",
		"/usr/share/doc/sipwake/copyright root:root 644", "/usr/lib/systemd/system/sipwake.service root:root 644",
		"/usr/share/man/man1/sipwake.1.gz root:root 644", "/usr/share/bash-completion/completions/sipwake root:root 644",
		"/etc/systemd/system/multi-user.target.wants/sipwake.service root:root 777")
	if got := must("sipwake", "--version"); !regexp.MustCompile(`^\S+\n$`).MatchString(got) {
		t.Errorf("version: %q", got)
	}
	if got := must("zcat", "/usr/share/man/man1/sipwake.1.gz"); !strings.Contains(got, "sipwake 1.0.0") || !strings.Contains(got, "sipwake trace") {
		t.Errorf("the manual: %.300s", got)
	}
	must("bash", "-c", `. /usr/share/bash-completion/completions/sipwake; COMP_WORDS=(sipwake tr); COMP_CWORD=1; _sipwake; [ "${COMPREPLY[*]}" = trace ]`)
	t.Run("unit", func(t *testing.T) { checkUnit(t, h) })
	must("sipwake", "check")
	h.share("bindings.jsonl", fmt.Sprintf(`{"aor":"bob@example.com","provider":"fcm","app":"org.example.phone",`+
		`"tokens":[{"token":"fcm-token-bob-1"}],"contact":"","call_id":"1","cseq":0,"node":"","registered_at":%q}`,
		time.Now().UTC().Format(time.RFC3339)))
	h.whileServing(func() {
		must("sipwake", "bindings", "import", "/mnt/bindings.jsonl")
		must("sipwake", "health")
		must("sipwake", "status")
		// Another user of the machine has no token, so he learns nothing.
		for _, command := range [][]string{{"cat", "/etc/sipwake/rpc.token"}, {"sipwake", "bindings", "list", "--all"}} {
			if out, err := h.commandAs("nobody:nogroup", command...).CombinedOutput(); err == nil {
				t.Errorf("%v as nobody: %s", command, out)
			}
		}
	})
	token := must("cat", "/etc/sipwake/rpc.token")
	if !regexp.MustCompile(`^[0-9a-f]{64}\n$`).MatchString(token) {
		t.Error("that is no token")
	}
	leak.Secret(strings.TrimSpace(token))

	// The administrator's changes, and a version that has other ones.
	must("sh", "-c", "echo '# ours' >>/etc/sipwake/sipwake.yml; chmod 600 /etc/sipwake/sipwake.yml; chown sipwake /etc/sipwake/sipwake.yml")
	must("sh", "-c", "echo a-secret >/etc/sipwake/sip1.secret; systemctl disable sipwake 2>&1")
	must("sh", "-ec", `cd /mnt; dpkg-deb -R one.deb two
		sed -i 's/^Version: .*/Version: 999/' two/DEBIAN/control; echo '# theirs' >>two/etc/sipwake/sipwake.yml
		dpkg-deb -Znone -b two two.deb`)
	must("dpkg", "--force-confold", "--install", "/mnt/two.deb")
	h.expectFiles("/etc/sipwake/sipwake.yml sipwake:sipwake 600", "/etc/sipwake/sipwake.yml.dpkg-dist sipwake:sipwake 600")
	h.expectNoFiles("/etc/systemd/system/multi-user.target.wants/sipwake.service") // it was disabled
	if must("cat", "/etc/sipwake/rpc.token") != token {
		t.Error("the upgrade made another token: the proxies have the old one")
	}
	if got := must("tail", "-n", "1", "/etc/sipwake/sipwake.yml"); got != "# ours\n" {
		t.Errorf("the configuration after the upgrade ends with %q", got)
	}
	h.whileServing(func() {
		if got := must("sipwake", "bindings", "list", "--all"); !strings.Contains(got, "bob@example.com") {
			t.Errorf("bindings after the upgrade: %s", got)
		}
	})

	must("dpkg", "--remove", "sipwake")
	h.expectFiles("/etc/sipwake/sipwake.yml sipwake:sipwake 600", "/var/lib/sipwake/sipwake.db sipwake:sipwake 600", "/var/lib/sipwake/sipwake.db.traces sipwake:sipwake 600")
	h.expectNoFiles("/usr/bin/sipwake", "/usr/lib/systemd/system/sipwake.service", "/usr/share/doc/sipwake")
	must("dpkg", "--purge", "sipwake")
	h.expectFiles("/etc/sipwake/sip1.secret root:root 644") // not ours to throw away
	h.expectNoFiles("/etc/sipwake/sipwake.yml", "/etc/sipwake/rpc.token", "/etc/sipwake/sipwake.yml.dpkg-dist", "/var/lib/sipwake",
		"/var/lib/systemd/deb-systemd-helper-enabled/sipwake.service.dsh-also")
}

// checkUnit has systemd read the installed unit and judge how much it lets the
// service do.
func checkUnit(t *testing.T, h *copyOfHost) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		missing(t, err)
	}
	if out := h.must("systemd-analyze", "verify", "sipwake.service"); strings.Contains(out, "sipwake.service:") {
		t.Errorf("verify: %s", out)
	}
	// Exposure, in tenths: the rest is network access, which the service needs.
	h.must("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=15", "sipwake.service")
}

// missing skips the test, or fails it where nothing may be missing.
func missing(t *testing.T, why error) {
	t.Helper()
	if os.Getenv("SIPWAKE_REQUIRE_ALL") != "" && os.Getuid() == 0 {
		t.Fatal(why)
	}
	t.Skip(why)
}

// buildPackage returns a package, version 1.0.0, around the program that make has just built,
// or around one of its own.
func buildPackage(t *testing.T) string {
	t.Helper()
	nfpm, err := stack.Find("nfpm")
	if err != nil {
		missing(t, fmt.Errorf("%w, or make test", err))
	}
	program := "../bin/sipwake"
	if os.Getenv("SIPWAKE_REQUIRE_ALL") == "" {
		program = filepath.Join(t.TempDir(), "sipwake")
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "../cmd/sipwake") // as make does
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	arch, err := exec.Command("go", "env", "GOARCH").Output()
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("../deploy/deb/build.sh", program, "1.0.0", strings.TrimSpace(string(arch)), t.TempDir())
	build.Env = append(os.Environ(), "PATH="+filepath.Dir(nfpm)+":"+os.Getenv("PATH"))
	out, err := build.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Fatalf("%v: %s", err, exit.Stderr)
	}
	deb, err := os.ReadFile(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	return string(deb)
}

// copyOfHost is a system that looks like this one until it is changed.
type copyOfHost struct {
	t      *testing.T
	pid    int    // of the process that holds the namespaces
	root   string // in its mount namespace
	shared string // a directory of the host, /mnt there
}

// hold makes the namespaces and stays until its standard input ends.
const hold = `set -e
mount -t tmpfs sipwake "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" overlay "$1/root"
for d in run tmp; do mount -t tmpfs sipwake "$1/root/$d"; done
for d in proc dev; do mount --rbind /$d "$1/root/$d"; done
mount --bind "$2" "$1/root/mnt"
rm -rf "$1/root/etc/sipwake" "$1/root/var/lib/sipwake"
ip link set lo up
echo made
cat >/dev/null`

func newCopyOfHost(t *testing.T) *copyOfHost {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can make a copy of this system to install the package in")
	}
	for _, tool := range []string{"dpkg", "unshare", "nsenter", "ip", "systemd-sysusers", "deb-systemd-helper"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, err)
		}
	}
	shared := t.TempDir()
	if err := os.Chmod(shared, 0o755); err != nil { // other users go in, through /mnt
		t.Fatal(err)
	}
	holder := exec.Command("unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", hold, "hold", t.TempDir(), shared)
	said := new(strings.Builder)
	holder.Stderr = said
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		in.Close()
		_ = holder.Wait()
		t.Skipf("root may not make a copy of this system here: %s", said) // in a container, say
	}
	t.Cleanup(func() {
		in.Close()
		_ = holder.Wait()
	})
	h := &copyOfHost{t: t, pid: holder.Process.Pid, root: holder.Args[len(holder.Args)-2] + "/root", shared: shared}
	if line != "made\n" {
		t.Fatalf("hold said %q", line)
	}
	if _, err := h.command("dpkg", "--status", "sipwake").Output(); err == nil { // the host has it
		h.must("dpkg", "--purge", "sipwake")
	}
	return h
}

// share makes a file of /mnt.
func (h *copyOfHost) share(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.shared, name), []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// command returns one that runs in the copy, as root.
func (h *copyOfHost) command(args ...string) *exec.Cmd {
	return h.commandAs("root:root", args...)
}

func (h *copyOfHost) commandAs(user string, args ...string) *exec.Cmd {
	inside := []string{"--target", strconv.Itoa(h.pid), "--mount", "--net", "chroot", "--userspec=" + user, h.root}
	cmd := exec.Command("nsenter", append(inside, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// must runs a command and returns its output.
func (h *copyOfHost) must(args ...string) string {
	h.t.Helper()
	out, err := h.command(args...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// expectFiles checks files, each "PATH OWNER:GROUP MODE".
func (h *copyOfHost) expectFiles(files ...string) {
	h.t.Helper()
	for _, want := range files {
		path, _, _ := strings.Cut(want, " ")
		if got := strings.TrimSpace(h.must("stat", "--format", "%n %U:%G %a", path)); got != want {
			h.t.Errorf("want %s, got %s", want, got)
		}
	}
}

func (h *copyOfHost) expectNoFiles(paths ...string) {
	h.t.Helper()
	for _, path := range paths {
		if err := h.command("test", "!", "-e", path, "-a", "!", "-L", path).Run(); err != nil {
			h.t.Errorf("%s is there", path)
		}
	}
}

// whileServing runs f while the installed service runs as the unit would run it,
// with the installed configuration.
func (h *copyOfHost) whileServing(f func()) {
	h.t.Helper()
	socket := filepath.Join(h.shared, "notify")
	os.Remove(socket)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	if err := os.Chmod(socket, 0o666); err != nil {
		h.t.Fatal(err)
	}
	serve := h.commandAs("sipwake:sipwake", "/bin/sh", "-c", "umask 077; exec /usr/bin/sipwake serve")
	serve.Env = append(serve.Env, "NOTIFY_SOCKET=/mnt/notify", "WATCHDOG_USEC=30000000")
	said := new(lockedBuffer)
	serve.Stderr = said
	if err := serve.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- serve.Wait() }()
	defer func() { _ = serve.Process.Kill() }()
	h.notified(conn, said, "READY=1")
	h.notified(conn, said, "WATCHDOG=1")
	f()
	if err := serve.Process.Signal(syscall.SIGTERM); err != nil {
		h.t.Fatal(err)
	}
	h.notified(conn, said, "STOPPING=1")
	if err := <-ended; err != nil {
		h.t.Fatalf("the service ended with %v:\n%s", err, said.String())
	}
}

// notified waits for a notification that begins so.
func (h *copyOfHost) notified(conn *net.UnixConn, said *lockedBuffer, state string) {
	h.t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		h.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			h.t.Fatalf("no %s: %v; the service said:\n%s", state, err, said.String())
		}
		if strings.HasPrefix(string(buf[:n]), state) {
			return
		}
	}
}
