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

// RedisConfig says how to run one Redis server.
type RedisConfig struct {
	// Port is on 127.0.0.1. 0 picks a free one.
	Port int
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

// Address is host:port.
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
	if c.Port == 0 {
		port, err := FreePort("127.0.0.1")
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
	args := append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no"}, c.Options...)
	p, err := start(command{
		name: "redis-" + port, path: path, args: args, dir: dir, remove: temporary, orphan: syscall.SIGKILL,
	})
	if err != nil {
		if temporary {
			_ = os.RemoveAll(dir)
		}
		return nil, err
	}
	r := &Redis{Process: p, address: net.JoinHostPort("127.0.0.1", port)}
	if err := r.waitReady(ctx, r.ready); err != nil {
		return nil, err
	}
	return r, nil
}

// ready sends PING. A server with a password is up when it asks for it.
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
	if answer != "+PONG\r\n" && !strings.HasPrefix(answer, "-NOAUTH") {
		return fmt.Errorf("PING got %.40q", answer)
	}
	return nil
}
