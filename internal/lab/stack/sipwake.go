package stack

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"syscall"
	"time"
)

// SipwakeConfig configures one sipwake.
type SipwakeConfig struct {
	// Program is the sipwake binary.
	Program string
	// Config is its configuration file.
	Config string
	// Operations is host:port of its operations listener, as in the configuration.
	Operations string
	// Name is the name of the log file. Default sipwake.
	Name string
	// Dir holds the log. Default a temporary directory that Stop removes.
	Dir string
	// Env is NAME=VALUE in addition to the parent's environment.
	Env []string
}

// Sipwake is a running sipwake.
type Sipwake struct{ *Process }

// StartSipwake starts the service and returns when /readyz is 200.
func StartSipwake(ctx context.Context, c SipwakeConfig) (*Sipwake, error) {
	if c.Name == "" {
		c.Name = "sipwake"
	}
	dir, temporary, err := workDir(c.Dir, "service")
	if err != nil {
		return nil, fmt.Errorf("cannot start sipwake: %w", err)
	}
	p, err := start(command{
		name: c.Name, path: c.Program, args: []string{"serve", "--config", c.Config}, dir: dir, env: c.Env,
		remove: temporary, orphan: syscall.SIGKILL,
	})
	if err != nil {
		if temporary {
			_ = os.RemoveAll(dir)
		}
		return nil, err
	}
	ready := func(ctx context.Context) error { return httpReady(ctx, "http://"+c.Operations+"/readyz") }
	if err := p.waitReady(ctx, ready); err != nil {
		return nil, err
	}
	return &Sipwake{p}, nil
}

func httpReady(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers HTTP %d", url, res.StatusCode)
	}
	return nil
}
