package stack

import (
	"context"
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

// ErrNoGrafana says that there is no Grafana on PATH.
var ErrNoGrafana = errors.New("there is no grafana on PATH; Debian has no package of it, see grafana.com/grafana/download")

// GrafanaConfig configures one Grafana.
type GrafanaConfig struct {
	// Folder is the folder grafana of the source tree, with dashboards and provisioning.
	Folder string
	// Prometheus is the URL of the Prometheus to query.
	Prometheus string
	// Interval is that Prometheus' scrape interval.
	Interval string
}

// Grafana is a running Grafana that needs no login.
type Grafana struct {
	*Process
	url string
}

// URL returns the URL of its page.
func (g *Grafana) URL() string { return g.url }

// StartGrafana starts the Grafana of the host and returns when it answers. The error
// wraps ErrNoGrafana if there is none.
func StartGrafana(ctx context.Context, c GrafanaConfig) (*Grafana, error) {
	path, err := exec.LookPath("grafana")
	if err != nil {
		return nil, ErrNoGrafana
	}
	port, err := FreePort("127.0.0.1")
	if err != nil {
		return nil, err
	}
	dir, _, err := workDir("", "grafana")
	if err != nil {
		return nil, fmt.Errorf("cannot start grafana: %w", err)
	}
	g, err := startGrafana(path, dir, port, c)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("cannot start grafana: %w", err)
	}
	if err := g.waitReady(ctx, func(ctx context.Context) error { return httpReady(ctx, g.url+"/api/health") }); err != nil {
		return nil, err
	}
	return g, nil
}

func startGrafana(path, dir string, port int, c GrafanaConfig) (*Grafana, error) {
	folder, err := filepath.Abs(c.Folder)
	if err != nil {
		return nil, err
	}
	if err := c.provision(folder, dir); err != nil {
		return nil, err
	}
	p, err := start(command{name: "grafana", path: path, args: []string{"server", "--homepath", grafanaHome(path)},
		dir: dir, remove: true, orphan: syscall.SIGKILL, env: []string{
			"GF_SERVER_HTTP_ADDR=127.0.0.1", "GF_SERVER_HTTP_PORT=" + strconv.Itoa(port),
			"GF_PATHS_DATA=" + dir, "GF_PATHS_LOGS=" + dir, "GF_PATHS_PROVISIONING=" + filepath.Join(dir, "provisioning"),
			"GF_AUTH_ANONYMOUS_ENABLED=true", "GF_AUTH_ANONYMOUS_ORG_ROLE=Admin",
			"GF_ANALYTICS_REPORTING_ENABLED=false", "GF_ANALYTICS_CHECK_FOR_UPDATES=false", "GF_PLUGINS_PREINSTALL_DISABLED=true",
			"GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH=" + filepath.Join(folder, "dashboards", "sipwake-on-call.json"),
		}})
	if err != nil {
		return nil, err
	}
	return &Grafana{Process: p, url: "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}, nil
}

// provision writes the folder's provisioning files into dir, with this Prometheus and the
// folder's dashboards.
func (c *GrafanaConfig) provision(folder, dir string) error {
	changed := strings.NewReplacer("http://127.0.0.1:9090", c.Prometheus, "15s", c.Interval,
		"/usr/share/sipwake/grafana/dashboards", filepath.Join(folder, "dashboards"))
	for _, name := range []string{"datasources/prometheus.yml", "dashboards/sipwake.yml"} {
		text, err := os.ReadFile(filepath.Join(folder, "provisioning", name))
		if err != nil {
			return err
		}
		file := filepath.Join(dir, "provisioning", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(changed.Replace(string(text))), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// grafanaHome returns the directory of Grafana's own files: /usr/share/grafana for its
// package, the parent of bin for its archive.
func grafanaHome(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		if home := filepath.Dir(filepath.Dir(real)); isDir(filepath.Join(home, "public")) {
			return home
		}
	}
	return "/usr/share/grafana"
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}
