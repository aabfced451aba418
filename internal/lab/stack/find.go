package stack

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// ErrMissing says that a program has not been set up.
var ErrMissing = errors.New("not set up: run make setup")

// Cache returns the directory in which `make setup` stores what it downloads: SIPWAKE_CACHE,
// or .cache/sipwake in the home directory.
func Cache() (string, error) {
	if dir := os.Getenv("SIPWAKE_CACHE"); dir != "" {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("cannot find the cache of make setup: %w", err)
	}
	return filepath.Join(home, ".cache", "sipwake"), nil
}

// Find returns the path of a program that `make setup` provides: kamailio, kamcmd,
// redis-server, redis-cli, prometheus or promtool. The error wraps ErrMissing if it is
// not there.
func Find(name string) (string, error) {
	dir, err := Cache()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "bin", name)
	if st, err := os.Stat(path); err != nil || st.IsDir() || st.Mode()&0o111 == 0 {
		return "", fmt.Errorf("cannot run %s: %w", name, ErrMissing)
	}
	return path, nil
}

// The ports of FreePort: systems give those above to outgoing connections, and so would
// one that was free a moment ago be gone.
const lowestPort, highestPort = 10_000, 32_000

// FreePort returns a port that is free on the address for UDP and TCP just now.
// Another program may take it before it is used.
func FreePort(address string) (int, error) {
	var err error
	for range 20 {
		port := lowestPort + rand.N(highestPort-lowestPort)
		at := net.JoinHostPort(address, strconv.Itoa(port))
		var l net.Listener
		if l, err = net.Listen("tcp", at); err != nil {
			continue
		}
		var c net.PacketConn
		c, err = net.ListenPacket("udp", at)
		l.Close()
		if err == nil {
			c.Close()
			return port, nil
		}
	}
	return 0, fmt.Errorf("cannot find a free port on %s: %w", address, err)
}

// workDir returns dir, and creates it if necessary. If dir is empty, it returns a new
// temporary directory that the caller must remove.
func workDir(dir, name string) (path string, temporary bool, err error) {
	if dir == "" {
		path, err = os.MkdirTemp("", "sipwake-"+name+"-")
		return path, true, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", false, err
	}
	return dir, false, os.MkdirAll(dir, 0o700)
}
