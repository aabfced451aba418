package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/labca"
)

// lab writes the files of a CA: ca.pem, server.pem and server.key for servers only,
// client.pem and client.key.
func lab(t *testing.T, dir string, end time.Time) {
	t.Helper()
	ca, err := labca.New("lab")
	if err != nil {
		t.Fatal(err)
	}
	save := func(name string, c tls.Certificate) {
		t.Helper()
		write(t, dir, name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}))
		write(t, dir, name+".key", pkcs8(t, c.PrivateKey))
	}
	write(t, dir, "ca.pem", ca.PEM())
	server, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	save("server", server)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.Client(pkix.Name{CommonName: "commands"}, key.Public(), end)
	if err != nil {
		t.Fatal(err)
	}
	save("client", tls.Certificate{Certificate: [][]byte{client.Raw}, PrivateKey: key})
}

// Where the service's certificate is for servers only, its commands need one of their
// own; check says so before they fail.
func TestClientCertificateOfCommands(t *testing.T) {
	dir := configured(t)
	lab(t, dir, time.Time{})
	const of = "  cert_file: server.pem\n  key_file: server.key\n  client_ca_file: ca.pem"
	edit(t, dir, "listen: 127.0.0.1:0", "listen: 127.0.0.1:0\n"+of)
	check := func(want string) {
		t.Helper()
		if _, stderr, status := sipwake(t, dir, "check", nobody, "sipwake.yml"); stderr != want || status != 0 {
			t.Errorf("status %d: %s\nwant %s", status, stderr, want)
		}
	}
	const shows = ": sipwake's own commands show this certificate, but "
	check("warning: sipwake.yml:3: rpc.cert_file" + shows + "it is for servers only (it has no clientAuth), " +
		"as those of public CAs are since 2026: set client_cert_file to another one\n")
	s := serve(t, dir)
	status := func(more string) (string, int) {
		t.Helper()
		write(t, dir, "client.yml", []byte("rpc:\n  listen: "+s.rpc+"\n"+of+more+"\n"))
		_, stderr, status := sipwake(t, dir, "trace", "--config", "client.yml", "--aor", "bob@example.com")
		return stderr, status
	}
	if stderr, _ := status(""); !strings.Contains(stderr, "remote error: tls") {
		t.Errorf("the server's certificate was taken: %s", stderr)
	}
	const own = "\n  client_cert_file: client.pem\n  client_key_file: client.key"
	if stderr, _ := status(own); stderr != "sipwake: no call was found\n" {
		t.Errorf("the commands' own certificate: %s", stderr)
	}
	edit(t, dir, of, of+own)
	check("")
	edit(t, dir, of+own, of+own+"\n  client_names: [edge1]")
	check("warning: sipwake.yml:6: rpc.client_cert_file" + shows + "client_names has none of its names\n")
	edit(t, dir, "client_names: [edge1]", "client_names: [commands]")
	check("")
	edit(t, dir, "client_ca_file: ca.pem", "client_ca_file: cert.pem")
	check("warning: sipwake.yml:6: rpc.client_cert_file" + shows + "it is of no CA of client_ca_file\n")

	lab(t, dir, time.Now().Add(50*time.Hour))
	edit(t, dir, "client_ca_file: cert.pem", "client_ca_file: ca.pem")
	check("warning: sipwake.yml:6: rpc.client_cert_file: the certificate expires in 2 days, on " +
		time.Now().Add(50*time.Hour).UTC().Format(time.DateOnly) + "\n")
	edit(t, dir, "  client_key_file: client.key\n", "")
	if _, stderr, status := sipwake(t, dir, "check", nobody, "sipwake.yml"); status != 1 ||
		!strings.HasSuffix(stderr, "sipwake: sipwake.yml:6: rpc.client_cert_file: client_cert_file and client_key_file go together\n") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

// A bundle of CAs that is mounted takes the place of the image's, as SSL_CERT_FILE says;
// its age is in the metrics, and a public CA for clients is a warning.
func TestBundleOfCAs(t *testing.T) {
	dir := configured(t)
	sim, err := apnssim.Start(apnssim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	write(t, dir, "sipwake.yml", []byte("store: {local: {path: sipwake.db}}\nrpc:\n  listen: 127.0.0.1:0\noperations:\n  listen: 127.0.0.1:0\napns:\n  - {bundle_id: com.example.phone, team_id: ABCDE12345, "+
		"key_id: 12345ABCDE, key_file: key.p8, endpoint: '"+sim.URL()+"', sandbox_endpoint: '"+sim.URL()+"'}\n"))
	online := func() string {
		t.Helper()
		_, stderr, _ := sipwake(t, dir, "check", nobody, "--online", "sipwake.yml")
		return stderr
	}
	if got := online(); !strings.Contains(got, "certificate signed by unknown authority") {
		t.Fatalf("without the bundle: %s", got)
	}
	bundle := write(t, dir, "bundle.pem", sim.CA())
	written := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := os.Chtimes(bundle, written, written); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", bundle)
	if got := online(); got != "" {
		t.Errorf("with the bundle: %s", got)
	}
	res, err := http.Get("http://" + serve(t, dir).operations + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	metrics, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(metrics); !strings.Contains(got, "sipwake_ca_bundle_timestamp_seconds 1.767323045e+09\n") {
		t.Error("the age of the bundle is not in the metrics")
	}
	lab(t, dir, time.Time{})
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "bundle.pem", ca)
	edit(t, dir, "rpc:\n", "rpc:\n  cert_file: client.pem\n  key_file: client.key\n  client_ca_file: ca.pem\n")
	_, stderr, _ := sipwake(t, dir, "check", nobody, "sipwake.yml")
	if want := `warning: sipwake.yml:5: rpc.client_ca_file: "lab" is a public CA. Those make certificates for servers only since 2026, ` +
		"which no client can show here: use a CA of your own\n"; stderr != want {
		t.Errorf("%s\nwant %s", stderr, want)
	}
}
