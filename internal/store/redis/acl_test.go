package redis_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
)

// certificate makes a CA and a certificate for 127.0.0.1, and returns the files.
func certificate(t *testing.T) (ca, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("ca.pem", "CERTIFICATE", der), write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER)
}

// aclRule returns the rule for the user that docs/CONFIG.md shows.
func aclRule(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/CONFIG.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^ACL SETUSER sipwake (.*)$`).FindSubmatch(text)
	if m == nil {
		t.Fatal("docs/CONFIG.md shows no ACL SETUSER")
	}
	return strings.Fields(string(m[1]))
}

// The user that the documents show can do all that sipwake does, over TLS, and
// has no right that it does not use.
func TestLeastRights(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes many seconds")
	}
	ca, cert, key := certificate(t)
	server := storetest.NewRedis(t, "--tls-port", "0", "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca,
		"--repl-diskless-sync-delay", "0")
	admin := client(t, server.Addr)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	rule := aclRule(t)
	args := []any{"acl", "setuser", "sipwake"}
	for _, word := range rule {
		if strings.HasPrefix(word, ">") {
			word = ">hunter2"
		}
		args = append(args, strings.ReplaceAll(word, "sw:", "test"))
	}
	if err := admin.Do(ctx, args...).Err(); err != nil {
		t.Fatal(err)
	}
	var tlsAddr string
	eventually(t, "Redis speaks TLS", func() bool { // the port is free when it is picked and may be taken a moment later
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		tlsAddr = l.Addr().String()
		_ = l.Close()
		_, port, _ := net.SplitHostPort(tlsAddr)
		return admin.ConfigSet(ctx, "tls-port", port).Err() == nil
	})
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := redis.Config{Addresses: []string{tlsAddr}, Username: "sipwake", PasswordFile: password,
		TLS: redis.TLSConfig{Enabled: true, CAFile: ca, CertFile: cert, KeyFile: key}}

	contract(t, config)
	traceContract(t, config)
	config.Prefix = "test-peers:"
	t.Run("Peers", func(t *testing.T) { storetest.RunPeers(t, open(t, config), open(t, config)) })
	config.Prefix = "test:"
	s := open(t, config)
	if err := s.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(server.Addr, ":")
	slave := storetest.NewRedis(t, "--replicaof", host, port)
	inStep(t, client(t, slave.Addr))
	config.WaitReplicas = 1
	register(t, open(t, config), storetest.Registration("alice@example.com", 1))
	for _, entry := range admin.Do(ctx, "acl", "log").Val().([]any) {
		t.Errorf("denied: %v", entry)
	}

	stats := admin.Info(ctx, "commandstats").Val()
	for _, word := range rule {
		name, ok := strings.CutPrefix(word, "+")
		if ok && !slices.Contains(forOthers(), name) && !strings.Contains(stats, "cmdstat_"+name+":") {
			t.Errorf("the right %s is not used", word)
		}
	}

	for name, c := range map[string]redis.Config{
		"other keys": with(config, func(c *redis.Config) { c.Prefix = "other:" }),
		"password":   with(config, func(c *redis.Config) { c.PasswordFile, c.Password = "", secret.NewText("wrong") }),
		"other CA":   with(config, func(c *redis.Config) { c.TLS.CAFile, _, _ = certificate(t) }),
		"name":       with(config, func(c *redis.Config) { c.TLS.ServerName = "redis.example.com" }),
	} {
		if _, err := open(t, c).Register(ctx, storetest.Registration("alice@example.com", 1)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := s.Bindings(ctx, wake.Query{AOR: "alice@example.com"}); err != nil {
		t.Error(err)
	}
}

// forOthers are rights that only a cluster needs.
func forOthers() []string { return []string{"command", "cluster|slots", "asking"} }

func with(c redis.Config, f func(*redis.Config)) redis.Config {
	f(&c)
	return c
}

// A cluster's user needs a little more.
func TestLeastRightsCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes many seconds")
	}
	c := newCluster(t, 2, 0)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	args := []any{"acl", "setuser", "sipwake"}
	for _, word := range aclRule(t) {
		if strings.HasPrefix(word, ">") {
			word = ">hunter2"
		}
		args = append(args, word)
	}
	for _, cl := range c.clients {
		if err := cl.Do(ctx, args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, redis.Config{Addresses: c.addresses, Username: "sipwake", Password: secret.NewText("hunter2")})
	for n := range 20 {
		r := storetest.Registration(fmt.Sprintf("user%d@example.com", n), n)
		register(t, s, r)
		r.Action = wake.ActionUnbind
		register(t, s, r)
	}
	if err := s.Scan(ctx, func([]wake.Binding) error { return nil }); err != nil {
		t.Error(err)
	}
	for _, cl := range c.clients {
		for _, entry := range cl.Do(ctx, "acl", "log").Val().([]any) {
			t.Errorf("denied: %v", entry)
		}
	}
}
