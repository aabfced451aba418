package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/trace"
)

type statusCmd struct {
	Config string `short:"c" default:"${config}" help:"Configuration file of the running sipwake (${default})." type:"path"`
	JSON   bool   `name:"json" help:"Print it as JSON."`
}

// serviceStatus is what `sipwake status` prints. Its JSON format is stable.
type serviceStatus struct {
	Version  string      `json:"version"`
	Instance string      `json:"instance"`
	UptimeS  int64       `json:"uptime_s"`
	Ready    string      `json:"ready"` // "ok", or why it is not
	Store    string      `json:"store"`
	Load     int         `json:"load"` // 0 to 4
	Wakes    int         `json:"wakes_open"`
	Traces   statusTrace `json:"traces"`
	Nodes    []nodeState `json:"nodes"`
	Apps     []appState  `json:"apps"`
}

type statusTrace struct {
	Kept    int `json:"kept"`
	Queued  int `json:"queued"`
	Dropped int `json:"dropped"`
}

// nodeState is the result of a node's last probe, and the node's answers to signals since
// sipwake started.
type nodeState struct {
	ID       string `json:"id"`
	State    string `json:"state"` // up, unreachable, wrong secret, wrong answer or unknown
	Error    string `json:"error,omitempty"`
	Answered int    `json:"answered"`
	Failed   int    `json:"failed"`
}

type appState struct {
	Provider    string `json:"provider"`
	Package     string `json:"package"`
	Environment string `json:"environment,omitempty"`
	Breaker     string `json:"breaker"`
	Queued      int    `json:"queued"`
	InFlight    int    `json:"in_flight"`
}

// Run prints the status of the running sipwake. It returns an error if sipwake cannot work.
func (c *statusCmd) Run() error {
	cl, err := newClient(c.Config)
	if err != nil {
		return err
	}
	s, err := askStatus(cl)
	if err != nil {
		return err
	}
	s.Ready = "ok"
	if err := readiness(cl.cfg); err != nil {
		s.Ready = err.Error()
	}
	if c.JSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		err = e.Encode(s)
	} else {
		err = s.print(os.Stdout)
	}
	if err == nil && s.Ready != "ok" {
		err = errors.New(s.Ready)
	}
	return err
}

func askStatus(cl *client) (*serviceStatus, error) {
	var info struct {
		Version, Instance, Store string
		UptimeS                  int64       `json:"uptime_s"`
		Nodes                    []nodeState `json:"node_states"`
		Apps                     []appState
	}
	var load struct{ Load int }
	stats := map[string]float64{}
	for method, to := range map[string]any{"service.info": &info, "service.load": &load, "service.stats": &stats} {
		if err := cl.call(context.Background(), method, map[string]any{}, to); err != nil {
			return nil, err
		}
	}
	s := &serviceStatus{Version: info.Version, Instance: info.Instance, UptimeS: info.UptimeS, Store: info.Store,
		Load: load.Load, Wakes: int(stats["sipwake_wakes_open"]), Nodes: info.Nodes, Apps: info.Apps,
		Traces: statusTrace{int(stats["sipwake_traces_kept"]), int(stats["sipwake_traces_queue"]), int(stats["sipwake_traces_dropped_total"])}}
	for name, n := range stats {
		m := signalsStat.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		i := slices.IndexFunc(s.Nodes, func(n nodeState) bool { return n.ID == m[1] })
		switch {
		case i < 0: // a node of an earlier configuration
		case m[2] == "error":
			s.Nodes[i].Failed += int(n)
		default:
			s.Nodes[i].Answered += int(n)
		}
	}
	return s, nil
}

var signalsStat = regexp.MustCompile(`^sipwake_node_signals_total\{node=(.*),result=(.*)\}$`)

func (s *serviceStatus) print(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "%s\t%s\n", name, strings.TrimRight(fmt.Sprintf(format, args...), " \t"))
	}
	line("version", "%s, up %s", s.Version, trace.Span(time.Duration(s.UptimeS)*time.Second))
	line("instance", "%s", s.Instance)
	line("ready", "%s", s.Ready)
	line("store", "%s", s.Store)
	line("load", "%d of 4", s.Load)
	line("calls", "%d open", s.Wakes)
	line("traces", "%d calls kept, %d to write, %d dropped", s.Traces.Kept, s.Traces.Queued, s.Traces.Dropped)
	for _, n := range s.Nodes {
		why := ""
		if n.Error != "" {
			why = " (" + printable(n.Error) + ")"
		}
		line("node", "%s: %s%s, %d signals answered, %d failed", n.ID, n.State, why, n.Answered, n.Failed)
	}
	for _, a := range s.Apps {
		line("app", "%s: breaker %s, %d queued, %d in flight", strings.Join(strings.Fields(a.Provider+" "+a.Package+" "+a.Environment), " "),
			a.Breaker, a.Queued, a.InFlight)
	}
	return out.Flush()
}

type healthCmd struct {
	Config string `short:"c" default:"${config}" help:"Configuration file of the running sipwake (${default})." type:"path"`
}

// Run requests /readyz. It returns nil if sipwake can work.
func (c *healthCmd) Run() error {
	cfg, err := loadConfig(c.Config)
	if err != nil {
		return err
	}
	if err := readiness(cfg); err != nil {
		return err
	}
	fmt.Println("ok")
	return nil
}

const healthPatience = 3 * time.Second

// readiness asks the operations listener whether sipwake can work.
func readiness(cfg *config.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), healthPatience)
	defer cancel()
	where := fmt.Sprintf("sipwake at %s (operations.listen)", cfg.Operations.Listen)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+cfg.Operations.Listen+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("cannot make request: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("cannot reach %s: %w", where, withoutURL(err))
	}
	defer res.Body.Close()
	said, err := io.ReadAll(io.LimitReader(res.Body, 200))
	if err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s is not ready: %s", where, printable(strings.TrimSpace(string(said))))
	}
	return nil
}
