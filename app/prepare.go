package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"reflect"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/config"
	"github.com/sipwake/sipwake/kamailio"
	"github.com/sipwake/sipwake/opensips"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/apns"
	"github.com/sipwake/sipwake/push/fcm"
	"github.com/sipwake/sipwake/rpc"
	"github.com/sipwake/sipwake/store/local"
	"github.com/sipwake/sipwake/store/redis"
	"github.com/sipwake/sipwake/wake"
)

// store is a wake.Store with what running it needs.
type store interface {
	wake.Store
	wake.Sweeper
	wake.Outbox
	// Ping tells whether the store can be used right now.
	Ping(ctx context.Context) error
	Close() error
}

// parts is what a configuration yields without touching anything that runs.
type parts struct {
	apps  []push.App
	nodes map[string]wake.Node
}

// Apps does everything that New does short of opening the store and listening: it
// reads every file that the configuration names. It returns the apps that the
// configuration makes; they have not connected to anything and need no Close.
func Apps(cfg *config.Config) ([]push.App, error) {
	p, err := prepare(cfg, slog.New(slog.DiscardHandler))
	return p.apps, err
}

// prepare builds what the configuration asks for and reports every problem, each
// with its place in the file.
func prepare(cfg *config.Config, log *slog.Logger) (parts, error) {
	var (
		p        = parts{nodes: make(map[string]wake.Node, len(cfg.Nodes))}
		problems = cfg.Problems()
	)
	problems.Add("rpc", rpc.Check(cfg.RPC))
	problems.Add(storeField(cfg), checkStore(cfg, log))
	edges := map[string]string{}
	for _, n := range cfg.Nodes {
		if n.SIP != "" {
			edges[n.ID] = n.SIP
		}
	}
	for i := range cfg.Nodes {
		node, err := newNode(&cfg.Nodes[i], edges, log)
		problems.Add(fmt.Sprintf("nodes[%d]", i), err)
		p.nodes[cfg.Nodes[i].ID] = node
	}
	prepareApps(cfg, log, &p, problems)
	return p, problems.Err()
}

func newNode(n *config.Node, edges map[string]string, log *slog.Logger) (wake.Node, error) {
	if n.Type == config.NodeOpenSIPS {
		return opensips.New(n.ID, n.OpenSIPS(), edges, log)
	}
	return kamailio.New(n.ID, n.Config, edges, log)
}

func prepareApps(cfg *config.Config, log *slog.Logger, p *parts, problems *config.Problems) {
	for i := range cfg.APNs {
		apps, err := cfg.APNs[i].Apps(log)
		problems.Add(fmt.Sprintf("apns[%d]", i), err)
		p.apps = append(p.apps, apps...)
	}
	for i := range cfg.FCM {
		apps, err := cfg.FCM[i].Apps(log)
		problems.Add(fmt.Sprintf("fcm[%d]", i), err)
		p.apps = append(p.apps, apps...)
	}
	if cfg.WebPush != nil {
		apps, err := cfg.WebPush.Apps(log)
		problems.Add("webpush", err)
		p.apps = append(p.apps, apps...)
	}
	for i := range cfg.Webhooks {
		apps, err := cfg.Webhooks[i].Apps(log)
		problems.Add(fmt.Sprintf("webhooks[%d]", i), err)
		p.apps = append(p.apps, apps...)
	}
	p.apps = push.Found(p.apps, foundApps(cfg.CredentialsDir, log, problems))
}

// foundApps makes the apps of the credentials in dir, if there is one.
func foundApps(dir string, log *slog.Logger, problems *config.Problems) []push.App {
	const field = "credentials_dir"
	if dir == "" {
		return nil
	}
	if _, err := os.ReadDir(dir); err != nil { // once, and not by each provider
		problems.Add(field, fmt.Errorf("cannot read directory: %w", err))
		return nil
	}
	var found []push.App
	add := func(apps []push.App, err error) {
		problems.Add(field, err)
		found = append(found, apps...)
	}
	iOS, err := apns.FromDir(dir)
	problems.Add(field, err)
	for i := range iOS {
		add(iOS[i].Apps(log))
	}
	android, err := fcm.FromDir(dir)
	problems.Add(field, err)
	for i := range android {
		add(android[i].Apps(log))
	}
	return found
}

func openStore(cfg *config.Config, log *slog.Logger, reg prometheus.Registerer) (store, error) {
	if cfg.Store.Type == config.StoreRedis {
		return redis.New(cfg.Store.Redis, log, reg)
	}
	return local.New(cfg.Store.Local, log, reg)
}

// storeField is the part of the configuration that says how to open the store.
func storeField(cfg *config.Config) string {
	if cfg.Store.Type == config.StoreRedis {
		return "store.redis"
	}
	return "store.local.path"
}

// checkStore reads the files that the store will read. It leaves the embedded
// store's own file alone: a running sipwake may have it open.
func checkStore(cfg *config.Config, log *slog.Logger) error {
	if cfg.Store.Type != config.StoreRedis {
		return nil
	}
	s, err := redis.New(cfg.Store.Redis, log, nil)
	if err != nil {
		return err
	}
	return s.Close()
}

// problem gives an error of the field its place in the configuration file.
func problem(cfg *config.Config, field string, err error) error {
	p := cfg.Problems()
	p.Add(field, err)
	return p.Err()
}

// needRestart names the settings in which two configurations differ and which a
// reload leaves as they are.
func needRestart(was, is *config.Config) []string {
	var fields []string
	compare := func(field string, was, is any) {
		if !reflect.DeepEqual(was, is) {
			fields = append(fields, field)
		}
	}
	compare("rpc.listen", was.RPC.Listen, is.RPC.Listen)
	compare("rpc.cert_file", was.RPC.CertFile != "", is.RPC.CertFile != "") // TLS or not
	compare("rpc.max_body", was.RPC.MaxBody, is.RPC.MaxBody)
	compare("rpc.connections", was.RPC.Connections, is.RPC.Connections)
	compare("rpc.connections_per_client", was.RPC.ConnectionsPerClient, is.RPC.ConnectionsPerClient)
	compare("rpc.in_flight", was.RPC.InFlight, is.RPC.InFlight)
	compare("operations.listen", was.Operations, is.Operations)
	compare("log", was.Log, is.Log)
	compare("store", ownStore(was), ownStore(is))
	compare("wake.recent", was.Wake.Recent, is.Wake.Recent)
	compare("wake.signals", was.Wake.Signals, is.Wake.Signals)
	compare("wake.traces", was.Wake.Traces, is.Wake.Traces)
	return fields
}

// ownStore is the store's part of a configuration without what it has from the
// rules.
func ownStore(cfg *config.Config) config.Store {
	s := cfg.Store
	s.Local.Recent, s.Redis.Recent = 0, 0
	s.Fallback.Recent, s.Fallback.Retention = 0, 0
	return s
}
