package stack

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// PrometheusConfig configures one Prometheus.
type PrometheusConfig struct {
	// Folder is the folder grafana of the source tree, with prometheus.yml and rules.
	Folder string
	// Targets are host:port of the operations listeners to scrape.
	Targets []string
	// Interval is how often they are scraped and the rules evaluated, such as "1s".
	Interval string
	// Port is on 127.0.0.1. 0 picks a free one.
	Port int
	// Dir holds the log and what Prometheus stores. Default a temporary directory that
	// Stop removes.
	Dir string
}

// Prometheus is a running Prometheus.
type Prometheus struct {
	*Process
	url string
}

// URL returns the URL of its page and API.
func (p *Prometheus) URL() string { return p.url }

// StartPrometheus starts a Prometheus, with native histograms and exemplars, and
// returns when it answers. The error wraps ErrMissing if it has not been set up.
func StartPrometheus(ctx context.Context, c PrometheusConfig) (*Prometheus, error) {
	path, err := Find("prometheus")
	if err != nil {
		return nil, err
	}
	if c.Port == 0 {
		if c.Port, err = FreePort("127.0.0.1"); err != nil {
			return nil, err
		}
	}
	dir, temporary, err := workDir(c.Dir, "prometheus")
	if err != nil {
		return nil, fmt.Errorf("cannot start prometheus: %w", err)
	}
	p, err := startPrometheus(path, dir, temporary, c)
	if err != nil {
		if temporary {
			_ = os.RemoveAll(dir)
		}
		return nil, err
	}
	if err := p.waitReady(ctx, func(ctx context.Context) error { return httpReady(ctx, p.url+"/-/ready") }); err != nil {
		return nil, err
	}
	return p, nil
}

func startPrometheus(path, dir string, temporary bool, c PrometheusConfig) (*Prometheus, error) {
	config, err := c.write(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot start prometheus: %w", err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port))
	p, err := start(command{name: "prometheus", path: path, dir: dir, remove: temporary, orphan: syscall.SIGKILL, args: []string{
		"--config.file=" + config, "--web.listen-address=" + address, "--storage.tsdb.path=" + filepath.Join(dir, "data"),
		"--enable-feature=native-histograms,exemplar-storage"}})
	if err != nil {
		return nil, err
	}
	return &Prometheus{Process: p, url: "http://" + address}, nil
}

// write writes the configuration of the folder with the targets and the interval
// of c into dir.
func (c *PrometheusConfig) write(dir string) (file string, err error) {
	folder, err := filepath.Abs(c.Folder)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(folder, "prometheus.yml"))
	if err != nil {
		return "", err
	}
	made := strings.NewReplacer("job_name: sipwake", "job_name: sipwake\n    scrape_classic_histograms: true", "15s", c.Interval, "rules/", folder+"/rules/",
		`"127.0.0.1:8061"`, `"`+strings.Join(c.Targets, `", "`)+`"`).Replace(string(text))
	file = filepath.Join(dir, "prometheus.yml")
	return file, os.WriteFile(file, []byte(made), 0o600)
}
