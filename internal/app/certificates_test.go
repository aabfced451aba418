package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/lab/labca"
)

// The metric tells of the certificate in use: what a reload does not take stays as it
// was.
func TestCertificatesReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cert.pem")
	ca, err := labca.New("ca")
	if err != nil {
		t.Fatal(err)
	}
	write := func(end time.Time) {
		t.Helper()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ca.Client(pkix.Name{CommonName: "x"}, key.Public(), end)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, second := time.Now().Add(time.Hour).Truncate(time.Second), time.Now().Add(2*time.Hour).Truncate(time.Second)
	write(first)
	cfg := &config.Config{}
	cfg.RPC.CertFile, cfg.Acrobits.CertFile, cfg.OTLP.CertFile, cfg.Store.Redis.TLS.CertFile = file, file, file, file
	c := newCertificates(cfg, prometheus.NewRegistry())
	write(second)
	c.read(cfg)
	want := map[string]time.Time{"rpc.cert_file": second, "acrobits.cert_file": second,
		"otlp.cert_file": first, "store.redis.tls.cert_file": first}
	for _, one := range *c.list.Load() {
		if end, ok := want[one.field]; ok && !one.ends.Equal(end) {
			t.Errorf("%s ends %s, want %s", one.field, one.ends, end)
		}
		delete(want, one.field)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}
