package stack

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// RedisConfig configures one Redis server.
type RedisConfig struct {
	// Address is the IPv4 address to listen on. Default 127.0.0.1.
	Address string
	// Port is on Address. 0 picks a free one.
	Port int
	// Namespace is the network namespace to run in, by its name for "ip netns". Then
	// Address is an address in it, and Port must be set.
	Namespace string
	// Sentinel runs a sentinel instead of a server. It needs File, with what it monitors.
	Sentinel bool
	// File is a configuration file. The server rewrites it when a sentinel gives it
	// another role, so that it still has that role after a restart.
	File string
	// Dir holds the log and what Redis stores. Default a temporary directory that
	// Stop removes.
	Dir string
	// Options are further command-line options, such as "--appendonly", "yes". By
	// default nothing is stored on disk.
	Options []string
}

// Redis is a running Redis server.
type Redis struct {
	*Process
	address string
}

// Address returns host:port.
func (r *Redis) Address() string { return r.address }

// StartRedis starts a server and returns when it answers. The error wraps
// ErrMissing if Redis has not been set up.
func StartRedis(ctx context.Context, c RedisConfig) (*Redis, error) {
	path, err := Find("redis-server")
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		r, err := startRedis(ctx, path, c)
		if err == nil || c.Port != 0 || try == pickedPortTries || !strings.Contains(err.Error(), "in use") {
			return r, err
		}
	}
}

func startRedis(ctx context.Context, path string, c RedisConfig) (*Redis, error) {
	if c.Address == "" {
		c.Address = "127.0.0.1"
	}
	if c.Port == 0 {
		port, err := FreePort(c.Address)
		if err != nil {
			return nil, err
		}
		c.Port = port
	}
	dir, temporary, err := workDir(c.Dir, "redis")
	if err != nil {
		return nil, fmt.Errorf("cannot start redis: %w", err)
	}
	port := strconv.Itoa(c.Port)
	run := command{name: "redis-" + port, path: path, args: c.arguments(dir), dir: dir, remove: temporary, orphan: syscall.SIGKILL}
	if c.Namespace != "" {
		// nsenter executes the server in the same process, so that Stop ends the server.
		run.path, run.args = "nsenter", append([]string{"--net=/run/netns/" + c.Namespace, path}, run.args...)
	}
	p, err := start(run)
	if err != nil {
		if temporary {
			_ = os.RemoveAll(dir)
		}
		return nil, err
	}
	r := &Redis{Process: p, address: net.JoinHostPort(c.Address, port)}
	if err := r.waitReady(ctx, r.ready); err != nil {
		return nil, err
	}
	return r, nil
}

func (c *RedisConfig) arguments(dir string) []string {
	var args []string
	if c.File != "" {
		args = append(args, c.File)
	}
	args = append(args, "--port", strconv.Itoa(c.Port), "--bind", c.Address, "--dir", dir)
	if c.Sentinel {
		return append(append(args, "--sentinel"), c.Options...)
	}
	return append(append(args, "--save", "", "--appendonly", "no"), c.Options...)
}

// ready sends PING. A server with a password is up when it requires the password.
func (r *Redis) ready(ctx context.Context) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", r.address)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err
	}
	// A replica may not have reached its master yet.
	if answer != "+PONG\r\n" && !strings.HasPrefix(answer, "-NOAUTH") && !strings.HasPrefix(answer, "-MASTERDOWN") {
		return fmt.Errorf("PING got %.40q", answer)
	}
	return nil
}
