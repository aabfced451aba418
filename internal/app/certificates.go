package app

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/rpc"
)

// certificates holds what can expire besides the apps' credentials: the certificate
// files that the configuration names, and the system's CAs. They are read at the start
// and at each reload.
type certificates struct {
	list         atomic.Pointer[[]certificate]
	ends, bundle *prometheus.Desc
}

// certificate is a file of certificates.
type certificate struct {
	field string // that names it
	ends  time.Time
}

func newCertificates(cfg *config.Config, reg prometheus.Registerer) *certificates {
	c := &certificates{
		ends: prometheus.NewDesc("sipwake_certificate_expiry_timestamp_seconds",
			"When the certificates of a file of the configuration end, in seconds since 1970: the first of a chain, the last of CAs.", []string{"field"}, nil),
		bundle: prometheus.NewDesc("sipwake_ca_bundle_timestamp_seconds",
			"When the system's file of trusted CAs was written, in seconds since 1970; absent if there is none.", nil, nil),
	}
	list := readCertificates(cfg)
	c.list.Store(&list)
	reg.MustRegister(c)
	return c
}

// read reads the files again at a reload, except those that only a restart applies.
func (c *certificates) read(cfg *config.Config) {
	kept := func(o certificate) bool {
		return strings.HasPrefix(o.field, "store.") || strings.HasPrefix(o.field, "otlp.")
	}
	list := slices.DeleteFunc(readCertificates(cfg), kept)
	for _, o := range *c.list.Load() {
		if kept(o) {
			list = append(list, o)
		}
	}
	c.list.Store(&list)
}

// Describe implements prometheus.Collector.
func (c *certificates) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.ends
	ch <- c.bundle
}

// Collect implements prometheus.Collector.
func (c *certificates) Collect(ch chan<- prometheus.Metric) {
	for _, one := range *c.list.Load() {
		ch <- prometheus.MustNewConstMetric(c.ends, prometheus.GaugeValue, float64(one.ends.Unix()), one.field)
	}
	if st, err := os.Stat(systemBundle()); err == nil {
		ch <- prometheus.MustNewConstMetric(c.bundle, prometheus.GaugeValue, float64(st.ModTime().Unix()))
	}
}

// systemBundle is the file of trusted CAs that Go's crypto/x509 reads, or empty.
func systemBundle() string {
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		return file
	}
	for _, file := range []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
		"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem"} {
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return ""
}

// readCertificates reads the certificate files, except the apps' credentials, which the
// apps know. It ignores files that it cannot read: others report them.
func readCertificates(cfg *config.Config) []certificate {
	var list []certificate
	for _, f := range cfg.Files() {
		authorities := strings.HasSuffix(f.Field, "ca_file")
		if !authorities && !strings.HasSuffix(f.Field, "cert_file") {
			continue
		}
		var ends time.Time
		rest, _ := os.ReadFile(f.Path)
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			cert, err := x509.ParseCertificate(block.Bytes)
			if err == nil && (ends.IsZero() || cert.NotAfter.After(ends) == authorities) {
				ends = cert.NotAfter
			}
		}
		if !ends.IsZero() {
			list = append(list, certificate{f.Field, ends})
		}
	}
	return list
}

// Warnings returns what is valid but will not work, or not for long, each with its place
// in the configuration: certificates that will be refused or expire soon, and refresh
// pushes that iOS will not deliver to the apps.
func Warnings(cfg *config.Config, apps []push.App, now time.Time) []string {
	list := refreshWarnings(cfg, apps)
	for _, err := range rpc.Doubts(cfg.RPC) {
		field, text, _ := strings.Cut(err.Error(), ": ")
		list = append(list, cfg.Place("rpc."+field, text))
	}
	for _, c := range readCertificates(cfg) {
		if text := push.Expiry(c.ends, now); text != "" {
			list = append(list, cfg.Place(c.field, "the certificate "+text))
		}
	}
	return list
}

// refreshWarnings warns if iPhones may register for so short a time that they would be
// woken more often than iOS allows.
func refreshWarnings(cfg *config.Config, apps []push.App) []string {
	r := cfg.Wake.Refresh
	most := 0
	for i := range apps {
		if n := apps[i].BackgroundPerHour; n > 0 && (most == 0 || n < most) {
			most = n
		}
	}
	if !r.Enabled || most == 0 {
		return nil
	}
	// A registration is refreshed at the latest this long after it was made.
	least := (time.Hour/time.Duration(most) + r.Before + r.Spread).Round(time.Second)
	if cfg.Wake.MinExpires >= least {
		return nil
	}
	return []string{cfg.Place("wake.min_expires", fmt.Sprintf("is %v: an iPhone that registers for less than %v would have to be woken "+
		"more often than the %d times an hour that iOS delivers, and is not (background_per_hour of apns)", cfg.Wake.MinExpires, least, most))}
}
