package app

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/sipwake/sipwake/internal/lab/labca"
)

// A certificate for the apps that report is renewed by a reload, as that of RPC is: it
// stands in the internet, and ends every few weeks.
func TestReportCertificateIsReloaded(t *testing.T) {
	dir := t.TempDir()
	ca, err := labca.New("test")
	if err != nil {
		t.Fatal(err)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, kind string, der []byte) {
		t.Helper()
		if err := os.WriteFile(path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	renew := func() string {
		t.Helper()
		c, err := ca.Server("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		write("cert.pem", "CERTIFICATE", c.Certificate[0])
		write("key.pem", "PRIVATE KEY", key)
		return string(c.Certificate[0])
	}
	write("secret", "SECRET", []byte("of the keys of users"))
	first := renew()
	a, _ := started(t, "acrobits: {listen: '127.0.0.1:0', cert_file: "+path("cert.pem")+", key_file: "+path("key.pem")+", secret_file: "+path("secret")+"}")
	shown := func() string {
		t.Helper()
		c, err := tls.Dial("tcp", a.ReportsAddr(), &tls.Config{RootCAs: ca.Pool(), ServerName: "127.0.0.1"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return string(c.ConnectionState().PeerCertificates[0].Raw)
	}
	if shown() != first {
		t.Error("another certificate than that of the file")
	}
	second := renew()
	if err := a.Reload(a.cfg); err != nil {
		t.Fatal(err)
	}
	if shown() != second {
		t.Error("the old certificate after a reload")
	}
	write("cert.pem", "CERTIFICATE", []byte("x"))
	if err := a.Reload(a.cfg); err == nil || shown() != second {
		t.Error("after a reload that failed:", err)
	}
}
