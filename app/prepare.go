package app

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/config"
	"github.com/sipwake/sipwake/kamailio"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/rpc"
	"github.com/sipwake/sipwake/store/local"
	"github.com/sipwake/sipwake/store/redis"
	"github.com/sipwake/sipwake/wake"
)

// store is a wake.Store with what running it needs.
type store interface {
	wake.Store
	// Ping tells whether the store can be used right now.
	Ping(ctx context.Context) error
	Close() error
}

// parts is what a configuration yields without touching anything that runs.
type parts struct {
	apps  []push.App
	nodes map[string]wake.Node
}

// Check does everything that New does short of opening the store and listening:
// it reads every file that the configuration names.
func Check(cfg *config.Config) error {
	_, err := prepare(cfg, slog.New(slog.DiscardHandler))
	return err
}

// prepare builds what the configuration asks for and reports every problem, each
// with its place in the file.
func prepare(cfg *config.Config, log *slog.Logger) (parts, error) {
	var (
		p        = parts{nodes: make(map[string]wake.Node, len(cfg.Nodes))}
		problems = cfg.Problems()
	)
	problems.Add("rpc", rpc.Check(cfg.RPC))
	for i, n := range cfg.Nodes {
		node, err := kamailio.New(n.ID, n.Config, log)
		problems.Add(fmt.Sprintf("nodes[%d]", i), err)
		p.nodes[n.ID] = node
	}
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
	return p, problems.Err()
}

func openStore(cfg *config.Config, log *slog.Logger, reg prometheus.Registerer) (store, error) {
	if cfg.Store.Type == config.StoreRedis {
		return redis.New(cfg.Store.Redis, log, reg)
	}
	return local.New(cfg.Store.Local, log, reg)
}

// needRestart names the parts in which two configurations differ and which a
// reload leaves as they are.
func needRestart(was, is *config.Config) []string {
	var fields []string
	for field, pair := range map[string][2]any{
		"rpc.listen": {was.RPC.Listen, is.RPC.Listen},
		"operations": {was.Operations, is.Operations},
		"store":      {was.Store, is.Store},
		"log":        {was.Log, is.Log},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			fields = append(fields, field)
		}
	}
	return fields
}
