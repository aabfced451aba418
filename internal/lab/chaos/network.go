package chaos

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// network is a bridge with network namespaces, each a separate host that can be cut off,
// and small file systems that can be filled. All names contain the process ID of the test
// harness, so that the next run can remove what a crashed one left.
type network struct {
	bridge string
	prefix string // 10.231.X.
	hosts  int
	mounts []string
}

const (
	bridgePrefix    = "swcb"
	vethPrefix      = "swcv"
	namespacePrefix = "swc-"
)

// newNetwork creates the bridge, or returns why it cannot. It needs root.
func newNetwork() (*network, string, error) {
	if os.Geteuid() != 0 {
		return nil, "not root: no network namespaces and no disk that can be full", nil
	}
	for _, tool := range []string{"ip", "nsenter", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, "no " + tool + ": no network namespaces and no disk that can be full", nil
		}
	}
	removeLeftovers()
	n := &network{bridge: bridgePrefix + strconv.Itoa(os.Getpid())}
	if err := command("ip", "link", "add", n.bridge, "type", "bridge"); err != nil {
		return nil, "no bridge: " + err.Error(), nil
	}
	if err := n.address(); err != nil {
		n.close()
		return nil, "", err
	}
	return n, "", nil
}

// address gives the bridge the first address of an unused network.
func (n *network) address() error {
	taken, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("cannot list addresses: %w", err)
	}
	for i := range 250 {
		n.prefix = fmt.Sprintf("10.231.%d.", (os.Getpid()+i)%250)
		free := true
		for _, a := range taken {
			free = free && !strings.HasPrefix(a.String(), n.prefix)
		}
		if free {
			return errors.Join(command("ip", "addr", "add", n.prefix+"1/24", "dev", n.bridge),
				command("ip", "link", "set", n.bridge, "up"))
		}
	}
	return errors.New("cannot find a free network in 10.231.0.0/16")
}

// host is a namespace with one address.
type host struct {
	name    string
	address string
	veth    string // its interface at the bridge
}

func (n *network) newHost() (host, error) {
	h := host{
		name:    fmt.Sprintf("%s%d-%d", namespacePrefix, os.Getpid(), n.hosts),
		address: n.prefix + strconv.Itoa(10+n.hosts),
		veth:    fmt.Sprintf("%s%d.%d", vethPrefix, os.Getpid(), n.hosts),
	}
	n.hosts++
	for _, args := range [][]string{
		{"netns", "add", h.name},
		{"link", "add", h.veth, "type", "veth", "peer", "name", "eth0", "netns", h.name},
		{"link", "set", h.veth, "master", n.bridge, "up"},
		{"-n", h.name, "addr", "add", h.address + "/24", "dev", "eth0"},
		{"-n", h.name, "link", "set", "eth0", "up"},
		{"-n", h.name, "link", "set", "lo", "up"},
	} {
		if err := command("ip", args...); err != nil {
			return h, err
		}
	}
	return h, nil
}

// cut disconnects the host, plug connects it again.
func (h host) cut() error  { return command("ip", "link", "set", h.veth, "down") }
func (h host) plug() error { return command("ip", "link", "set", h.veth, "up") }

// delay delays packets to the host; undelay ends that.
func (h host) delay(ms int) error {
	return command("tc", "qdisc", "replace", "dev", h.veth, "root", "netem", "delay", strconv.Itoa(ms)+"ms")
}

func (h host) undelay() error { return command("tc", "qdisc", "del", "dev", h.veth, "root") }

// noDelay tests whether the kernel can delay packets, and returns why it cannot.
func (h host) noDelay() string {
	if err := h.delay(0); err != nil {
		return "no netem in this kernel"
	}
	if err := h.undelay(); err != nil {
		return err.Error()
	}
	return ""
}

// disk mounts a small file system at dir.
func (n *network) disk(dir string, megabytes int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make a disk: %w", err)
	}
	if err := command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm,mode=700", megabytes), "tmpfs", dir); err != nil {
		return err
	}
	n.mounts = append(n.mounts, dir)
	return nil
}

// loop mounts a file system at dir that can be frozen, unlike a tmpfs. An error means that
// the system does not support it.
func (n *network) loop(dir string, megabytes int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	image := dir + ".img"
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, int64(megabytes)<<20)); err != nil {
		return err
	}
	if err := command("mkfs.ext4", "-q", "-O", "^has_journal", image); err != nil {
		return err
	}
	if err := command("mount", "-o", "loop,discard", image, dir); err != nil {
		return err
	}
	n.mounts = append(n.mounts, dir)
	if err := command("fsfreeze", "-f", dir); err != nil {
		return err
	}
	return command("fsfreeze", "-u", dir)
}

// close removes everything. The processes in the namespaces must have ended.
func (n *network) close() {
	for _, dir := range n.mounts {
		unmount(dir)
	}
	removeOf(pid())
}

// removeLeftovers removes what crashed runs have left.
func removeLeftovers() {
	names, _ := filepath.Glob("/run/netns/" + namespacePrefix + "*")
	links, _ := filepath.Glob("/sys/class/net/" + bridgePrefix + "*")
	for _, path := range append(names, links...) {
		text := strings.TrimPrefix(strings.TrimPrefix(filepath.Base(path), namespacePrefix), bridgePrefix)
		if text, _, _ = strings.Cut(text, "-"); gone(text) {
			removeOf(text)
		}
	}
	mounts, _ := os.ReadFile("/proc/mounts")
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[2] != "tmpfs" && fields[2] != "ext4" {
			continue
		}
		dir := fields[1]
		for filepath.Dir(dir) != "/" && !strings.HasPrefix(filepath.Base(dir), dirPrefix) {
			dir = filepath.Dir(dir)
		}
		text, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		if gone(text) {
			unmount(fields[1])
		}
	}
}

// gone reports whether the process with this ID has ended.
func gone(pid string) bool {
	id, err := strconv.Atoi(pid)
	return err == nil && errors.Is(syscall.Kill(id, 0), syscall.ESRCH)
}

// removeOf removes the namespaces and the bridge that the process with this ID created.
// The interfaces of a namespace disappear with it.
func removeOf(pid string) {
	names, _ := filepath.Glob(fmt.Sprintf("/run/netns/%s%s-*", namespacePrefix, pid))
	for _, path := range names {
		_ = command("ip", "netns", "del", filepath.Base(path))
	}
	links, _ := filepath.Glob(fmt.Sprintf("/sys/class/net/%s%s.*", vethPrefix, pid))
	for _, path := range links {
		_ = command("ip", "link", "del", filepath.Base(path)) // it goes with its namespace, a moment later
	}
	_ = command("ip", "link", "del", bridgePrefix+pid)
}

// unmount unmounts a disk; at worst it stays until the next boot.
func unmount(dir string) { _ = command("umount", "-l", dir) }

func pid() string { return strconv.Itoa(os.Getpid()) }

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot run %s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
