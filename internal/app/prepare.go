package app

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/local"
	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/upper"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/acrobits"
	"github.com/sipwake/sipwake/push/apns"
	"github.com/sipwake/sipwake/push/fcm"
	"github.com/sipwake/sipwake/rpc"
)

// parts holds what is built from a configuration without touching anything that runs.
type parts struct {
	apps     []push.App
	nodes    map[string]proxy
	upper    upper.Files
	password secret.Text // of the pages, may be empty
	// reports checks the reports of Acrobits apps; nil if there are none.
	reports *acrobits.Reports
	// reportsCert is the certificate of the listener for reports; nil without TLS.
	reportsCert *tls.Certificate
}

// Apps does everything that New does except opening the store and listening: it reads
// every file that the configuration names. It returns the configured apps, which have
// not connected to anything and need no Close.
func Apps(cfg *config.Config) ([]push.App, error) {
	apps, _, err := Check(cfg)
	return apps, err
}

// Check is Apps that also returns the nodes, by id. If the configuration already has
// problems, Check still checks every part without one, and the error has all problems.
func Check(cfg *config.Config) ([]push.App, map[string]wake.Node, error) {
	p, err := prepare(cfg, slog.New(slog.DiscardHandler))
	byID := make(map[string]wake.Node, len(p.nodes))
	for id, n := range p.nodes {
		byID[id] = n
	}
	return p.apps, byID, err
}

// prepare builds what is configured and reports every problem with its place in the
// file. It skips a part that already has a problem: it cannot know what the files of that
// part are for.
func prepare(cfg *config.Config, log *slog.Logger) (parts, error) {
	var (
		p        parts
		problems = cfg.Problems()
	)
	for _, line := range cfg.Renamed() {
		log.Warn("configuration key has another name now", "key", line)
	}
	if !slices.ContainsFunc([]string{"rpc.networks", "rpc.token_files", "rpc.cert_file", "rpc.key_file", "rpc.client_ca_file",
		"rpc.client_cert_file", "rpc.client_key_file", "rpc.http_push", "rpc.tenants"}, problems.Has) {
		problems.Add("rpc", rpc.Check(cfg.RPC)) // which reads these
	}
	if !problems.Has("store") {
		problems.Add(storeField(cfg), checkStore(cfg))
	}
	var err error
	p.password, err = pagePassword(cfg)
	problems.Add("operations.password_file", err)
	if !problems.Has("upper") {
		p.upper, err = cfg.Upper.Read()
		problems.Add("upper", err)
	}
	if !problems.Has("wake") {
		problems.Add("wake", cfg.Wake.Read())
	}
	checkExporters(cfg, problems)
	p.nodes = makeNodes(cfg, log, problems)
	prepareApps(cfg, log, &p, problems)
	return p, problems.Err()
}

func prepareApps(cfg *config.Config, log *slog.Logger, p *parts, problems *config.Problems) {
	for _, entry := range cfg.Apps() {
		if problems.Has(entry.Field) {
			continue
		}
		apps, err := entry.Apps(log)
		problems.Add(entry.Field, err)
		p.apps = append(p.apps, apps...)
	}
	if cfg.Acrobits.On() {
		p.reports, _ = cfg.Acrobits.Reports() // Apps reports the problems
		p.reportsCert, _ = cfg.Acrobits.Certificate()
	}
	apps, err := push.Settle(push.Found(p.apps, foundApps(cfg.CredentialsDir, log, problems)))
	p.apps = apps
	if wrong := (*push.AppError)(nil); errors.As(err, &wrong) {
		field := string(wrong.Provider)
		if !slices.Contains(config.AppSections(), field) {
			field = "webhooks"
		}
		problems.Add(field, err)
	}
	checkTenants(cfg, p.apps, problems)
}

// checkTenants reports apps of tenants that no phone can have. The possible names are
// unknown if an app has a problem, or if one serves any name.
func checkTenants(cfg *config.Config, apps []push.App, problems *config.Problems) {
	known := make(map[string]bool)
	for i := range apps {
		if apps[i].Any {
			return
		}
		for _, name := range apps[i].Packages {
			known[name] = true
		}
	}
	if slices.ContainsFunc(append(config.AppSections(), "credentials_dir"), problems.Has) {
		return
	}
	for i, t := range cfg.RPC.Tenants {
		for j, name := range t.Apps {
			if !known[name] {
				problems.Add(fmt.Sprintf("rpc.tenants[%d].apps[%d]", i, j), fmt.Errorf("no app has the package %q", name))
			}
		}
	}
}

// foundApps makes the apps of the credentials in dir, if there is one.
func foundApps(dir string, log *slog.Logger, problems *config.Problems) []push.App {
	const field = "credentials_dir"
	if dir == "" {
		return nil
	}
	if _, err := os.ReadDir(dir); err != nil { // report it once, not for each provider
		problems.Add(field, fmt.Errorf("cannot read directory: %w", err))
		return nil
	}
	var found []push.App
	said := make(map[string]bool)
	add := func(apps []push.App, err error) {
		if err != nil && !said[err.Error()] { // several apps may use one file
			said[err.Error()] = true
			problems.Add(field, err)
		}
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

func openStore(cfg *config.Config, log *slog.Logger, reg prometheus.Registerer) (store.Backend, error) {
	if cfg.Store.Type == config.StoreRedis {
		return redis.New(cfg.Store.Redis, log, reg)
	}
	return local.New(cfg.Store.Local, log, reg)
}

// storeField returns the section of the configuration that says how to open the store.
func storeField(cfg *config.Config) string {
	if cfg.Store.Type == config.StoreRedis {
		return "store.redis"
	}
	return "store.local.path"
}

// checkStore reads the files that the store will read, except the embedded store's own
// file: a running sipwake may have it open.
func checkStore(cfg *config.Config) error {
	if cfg.Store.Type != config.StoreRedis {
		return nil
	}
	return cfg.Store.Redis.Check()
}

// problem adds the field's place in the configuration file to an error.
func problem(cfg *config.Config, field string, err error) error {
	p := cfg.Problems()
	p.Add(field, err)
	return p.Err()
}

// needRestart returns the names of the settings that differ between two configurations
// and that a reload does not change.
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
	compare("operations.listen", was.Operations.Listen, is.Operations.Listen)
	compare("operations.exemplars", was.Operations.Exemplars, is.Operations.Exemplars)
	compare("load", was.Load, is.Load)
	compare("acrobits", ownListener(was), ownListener(is))
	compare("log", was.Log, is.Log)
	compare("store", ownStore(was), ownStore(is))
	compare("wake.recent", was.Wake.Recent, is.Wake.Recent)
	compare("wake.signals_per_node", was.Wake.SignalsPerNode, is.Wake.SignalsPerNode)
	compare("wake.traces", was.Wake.Traces, is.Wake.Traces)
	compare("traces", was.Traces, is.Traces)
	compare("homer", was.Homer, is.Homer)
	compare("otlp", was.OTLP, is.OTLP)
	return fields
}

// ownStore returns the store's section of a configuration without the settings that come
// from the rules.
func ownStore(cfg *config.Config) config.Store {
	s := cfg.Store
	s.Local.Recent, s.Redis.Recent = 0, 0
	s.Fallback.Recent, s.Fallback.Retention = 0, 0
	return s
}

// ownListener returns the settings of the section that concern the listener for reports.
func ownListener(cfg *config.Config) any {
	c := cfg.Acrobits
	return []any{c.Listen, c.On() && c.CertFile != "", *c.RateLimit, c.Connections}
}
