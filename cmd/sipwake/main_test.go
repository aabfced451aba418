package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/leak"
)

// asSipwake makes this test binary the program itself, so that the tests see it
// from outside: arguments, output, signals, exit status.
const asSipwake = "SIPWAKE_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asSipwake) != "" {
		main()
	}
	os.Exit(m.Run())
}

const patience = 30 * time.Second

// command is `sipwake ARGS`, run in dir and not started yet.
func command(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asSipwake+"=1")
	return cmd
}

// sipwake runs a command to its end. The directory is cut out of what it prints.
func sipwake(t *testing.T, dir string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := command(t, dir, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	said := leak.Record("command")
	fmt.Fprintf(said, "%s\n%s\n", out.String(), errs.String())
	said.Close()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	cut := func(b *bytes.Buffer) string { return strings.ReplaceAll(b.String(), dir+"/", "") }
	return cut(&out), cut(&errs), cmd.ProcessState.ExitCode()
}

func write(t *testing.T, dir, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// freePort is free just now. Another program may take it before it is used, so
// only tests that have to name a port in a file use it.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// keys puts one of each file that a configuration can name into dir.
func keys(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "key.p8", pkcs8(t, key))
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "p224.p8", pkcs8(t, small))
	certificate := certificate(t, key, "127.0.0.1")
	write(t, dir, "cert.pem", certificate)
	write(t, dir, "key.pem", pkcs8(t, key))
	write(t, dir, "other.pem", pkcs8(t, small))
	// Apple's mark of a certificate for the sandbox.
	sandbox := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 1}, Value: []byte{5, 0}}
	write(t, dir, "sandbox.pem", append(certificateWith(t, key, "127.0.0.1", sandbox), pkcs8(t, key)...))
	write(t, dir, "account.json", serviceAccount(t))
	write(t, dir, "broken.json", []byte(`{"type": "service_account", hunter2`))
	write(t, dir, "node.secret", []byte("7be2-shared-secret\n"))
	write(t, dir, "rpc.token", []byte("04d9-bearer-token\n"))
	leak.Secret("7be2-shared-secret", "04d9-bearer-token")
	write(t, dir, "empty", nil)
	if err := os.Mkdir(filepath.Join(dir, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func pkcs8(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	leak.Secret(string(text))
	return text
}

func certificate(t *testing.T, key *ecdsa.PrivateKey, host string) []byte {
	return certificateWith(t, key, host)
}

// certificateWith is a self-signed certificate for the host name or IP address.
func certificateWith(t *testing.T, key *ecdsa.PrivateKey, host string, extra ...pkix.Extension) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour), ExtraExtensions: extra,
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func serviceAccount(t *testing.T) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "example-phone", "private_key_id": "1",
		"private_key": string(pkcs8(t, key)), "client_email": "push@example-phone.example.com",
		"token_uri": "https://oauth2.example.com/token",
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}
