package tests

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/app"
	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push/apns"
	"github.com/sipwake/sipwake/push/fcm"
	"github.com/sipwake/sipwake/push/hms"
	"github.com/sipwake/sipwake/push/relay"
	"github.com/sipwake/sipwake/push/webhook"
	"github.com/sipwake/sipwake/rpc"
)

// What the documents say must be so: their snippets are run, their tables held
// against the code.

func readDoc(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile("../" + path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// docBlocks returns the fenced blocks of a document in one language.
func docBlocks(t *testing.T, path, language string) []string {
	t.Helper()
	var blocks []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(readDoc(t, path), -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) == 0 {
		t.Fatalf("%s has no %s block", path, language)
	}
	return blocks
}

// inTemp moves a configuration from /etc/sipwake to dir and makes the files that
// it names there.
func inTemp(t *testing.T, dir, text string) string {
	t.Helper()
	for _, m := range regexp.MustCompile(`/etc/sipwake/([\w.-]+)`).FindAllStringSubmatch(text, -1) {
		path := filepath.Join(dir, m[1])
		contents := []byte("a-secret-of-" + m[1] + "\n") // no two files hold one token
		switch filepath.Ext(path) {
		case ".p8", ".pem":
			contents = keyAndCertificate(t)
		case ".key":
			contents = []byte(strings.Repeat("5e", 32))
		case ".json":
			sim, err := fcmsim.Start(fcmsim.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(sim.Close)
			account, err := sim.MakeAccount(t.TempDir(), project)
			if err != nil {
				t.Fatal(err)
			}
			if contents, err = os.ReadFile(account); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Stat(path); err == nil {
			continue // one key, named twice
		}
		if err := os.WriteFile(path, contents, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// rpc.cert_file and rpc.key_file are one pair.
	if pair, err := os.ReadFile(filepath.Join(dir, "rpc.pem")); err == nil {
		if err := os.WriteFile(filepath.Join(dir, "rpc.key.pem"), pair, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return strings.ReplaceAll(text, "/etc/sipwake/", dir+"/")
}

func keyAndCertificate(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...)
}

// Every configuration that is shown is one, with the files that it names.
func TestDocsConfigurations(t *testing.T) {
	t.Parallel()
	shown := map[string][]string{
		"README.md":          docBlocks(t, "README.md", "yaml"),
		"docs/CONFIG.md":     docBlocks(t, "docs/CONFIG.md", "yaml"),
		"docs/CLUSTER.md":    docBlocks(t, "docs/CLUSTER.md", "yaml"),
		"docs/GATEWAY.md":    docBlocks(t, "docs/GATEWAY.md", "yaml"),
		"deploy/sipwake.yml": {uncommented(t, readDoc(t, "deploy/sipwake.yml"))},
		"deploy/compose":     {uncommented(t, readDoc(t, "deploy/compose/sipwake.yml"))},
	}
	for doc, blocks := range shown {
		for i, text := range blocks {
			dir := t.TempDir()
			file := filepath.Join(dir, "sipwake.yml")
			if err := os.WriteFile(file, []byte(inTemp(t, dir, text)), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := config.Load(file)
			if err == nil {
				_, err = app.Apps(c)
			}
			if err != nil {
				t.Errorf("block %d of %s: %v", i+1, doc, err)
			}
		}
	}
}

// The README's configuration, as its reader would check it.
func TestDocsREADMECheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := must2(program())(t)
	file := filepath.Join(dir, "sipwake.yml")
	if err := os.WriteFile(file, []byte(inTemp(t, dir, docBlocks(t, "README.md", "yaml")[0])), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "check", file).CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "\n"+file+": ok\n") {
		t.Errorf("%v: %s", err, out)
	}
}

// uncommented takes away the # of what would be configuration without it.
func uncommented(t *testing.T, text string) string {
	t.Helper()
	all := regexp.MustCompile(`(?m)^#(\S|  )`).ReplaceAllString(text, "$1")
	if all == text {
		t.Fatal("nothing is commented out")
	}
	return all
}

// deploy/sipwake.yml is valid unchanged, and the values that it shows are the defaults,
// except for the token that the package creates.
func TestDocsDeployShowsDefaults(t *testing.T) {
	t.Parallel()
	text := readDoc(t, "deploy/sipwake.yml")
	const token = "\n  token_files: [/etc/sipwake/rpc.token]\n"
	if !strings.Contains(text, token) {
		t.Error("it wants no token")
	}
	text = strings.Replace(text, token, "\n", 1)
	load := func(text string) map[string]string {
		t.Helper()
		c, err := config.Load(writeTemp(t, text))
		if err != nil {
			t.Fatal(err)
		}
		return settings(reflect.ValueOf(*c), "")
	}
	defaults, _, ok := strings.Cut(text, "# ---- yours")
	if !ok {
		t.Fatal("no heading over what is to be filled in")
	}
	want := load("log: {level: info}")
	for _, shown := range []string{text, uncommented(t, defaults)} {
		if d := cmp.Diff(want, load(shown)); d != "" {
			t.Errorf("default -, shown +:\n%s", d)
		}
	}
}

// settings returns every setting below v by its path, as text.
func settings(v reflect.Value, path string) map[string]string {
	all := map[string]string{}
	walkSettings(v, path, func(path string, v reflect.Value) { all[path] = settingText(v) })
	return all
}

// walkSettings calls f for every yaml key with a value, not for sections.
func walkSettings(v reflect.Value, path string, f func(path string, v reflect.Value)) {
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct {
		for i := range v.Len() {
			walkSettings(v.Index(i), path, f)
		}
		return
	}
	if v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct || v.Type().PkgPath() == "github.com/sipwake/sipwake/internal/secret" {
		f(path, v)
		return
	}
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			walkSettings(v.Field(i), path, f)
		case name != "" && name != "-":
			walkSettings(v.Field(i), strings.TrimPrefix(path+"."+name, "."), f)
		}
	}
}

func settingText(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.Pointer && !v.IsNil():
		v = v.Elem()
	case v.Kind() == reflect.Map && v.Len() == 0:
		return ""
	}
	return strings.ToLower(strings.Trim(fmt.Sprint(v.Interface()), "[]"))
}

// docKey is one row of a table of docs/CONFIG.md.
type docKey struct{ fallback, reload string }

// docKeys reads the tables of docs/CONFIG.md. A heading names the parts of the
// configuration that the table below it is about.
func docKeys(t *testing.T) map[string]docKey {
	t.Helper()
	keys := map[string]docKey{}
	code := regexp.MustCompile("`([^`]+)`")
	var parts []string
	for line := range strings.Lines(readDoc(t, "docs/CONFIG.md")) {
		if strings.HasPrefix(line, "## ") || strings.HasPrefix(line, "### ") {
			parts = nil
			for _, m := range code.FindAllStringSubmatch(line, -1) {
				parts = append(parts, m[1])
			}
			if parts == nil {
				parts = []string{""} // the whole file
			}
		}
		cells := strings.Split(line, "|")
		if !strings.HasPrefix(line, "| `") || len(cells) < 6 {
			continue
		}
		for _, part := range parts {
			key := strings.TrimPrefix(part+"."+strings.Trim(cells[1], " `"), ".")
			if _, twice := keys[key]; twice {
				t.Errorf("%s is there twice", key)
			}
			keys[key] = docKey{strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3])}
		}
	}
	return keys
}

// wholeCode matches a default that is given as a value, not in words.
var wholeCode = regexp.MustCompile("^`([^`]*)`$")

// Every key is documented with its default, and nothing else is.
func TestDocsConfigKeys(t *testing.T) {
	t.Parallel()
	c := &config.Config{Nodes: make([]config.Node, 1), APNs: make([]apns.Config, 1), FCM: make([]fcm.Config, 1),
		WebPush: make(config.WebPushApps, 1), HMS: make([]hms.Config, 1), Webhooks: make([]webhook.Config, 1), Relays: make([]relay.Config, 1),
		RPC: rpc.Config{Tenants: make([]rpc.Tenant, 1)}}
	c.SetDefaults()
	documented := docKeys(t)
	for key, value := range settings(reflect.ValueOf(*c), "") {
		doc, ok := documented[key]
		if !ok {
			t.Errorf("not documented: %s", key)
			continue
		}
		delete(documented, key)
		want := "" // where the default is in words, such as "none"
		if m := wholeCode.FindStringSubmatch(doc.fallback); m != nil {
			want = m[1]
			if d, err := time.ParseDuration(want); err == nil && want != "0" {
				want = d.String()
			}
		}
		if !strings.EqualFold(value, want) {
			t.Errorf("%s: the default is %q, documented is %q", key, value, doc.fallback)
		}
		if doc.reload != "yes" && doc.reload != "restart" {
			t.Errorf("%s: reload is %q", key, doc.reload)
		}
	}
	for key := range documented {
		t.Errorf("documented, but there is no such key: %s", key)
	}
}

// A reload that changes a key says that it needs a restart, where the document
// says so, and only there.
func TestDocsReload(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	for key, doc := range docKeys(t) {
		c, err := config.Load(r.file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(key, "web") { // which the rig has not
			c.WebPush, c.Webhooks = make(config.WebPushApps, 1), make([]webhook.Config, 1)
		}
		if strings.HasPrefix(key, "hms.") { // too
			c.HMS = make([]hms.Config, 1)
		}
		if strings.HasPrefix(key, "relays.") { // too
			c.Relays = make([]relay.Config, 1)
		}
		if strings.HasPrefix(key, "rpc.tenants") {
			c.RPC.Tenants = make([]rpc.Tenant, 1)
		}
		changed := false
		walkSettings(reflect.ValueOf(c).Elem(), "", func(path string, v reflect.Value) {
			if path == key && !changed {
				change(v)
				changed = true
			}
		})
		if !changed {
			t.Errorf("there is no %s to change", key)
		}
		if key == "otlp.endpoint" { // which is read before the difference shows
			c.OTLP.Endpoint = "http://127.0.0.1:4318"
		}
		if strings.HasPrefix(key, "acrobits.") { // too
			c.Acrobits.SecretFile = writeTemp(t, acrobitsSecret)
		}
		before := len(r.logs.String())
		err = r.app.Reload(c) // may well refuse the value
		warned := false
		for _, m := range needsRestart.FindAllStringSubmatch(r.logs.String()[before:], -1) {
			warned = warned || key == m[1] || strings.HasPrefix(key, m[1]+".")
		}
		if warned != (doc.reload == "restart") {
			t.Errorf("%s: documented is %q, a restart is asked for: %v, %v", key, doc.reload, warned, err)
		}
	}
}

var needsRestart = regexp.MustCompile(`"msg":"configuration change needs a restart","field":"([^"]+)"`)

// change gives a setting another value.
func change(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Uint32:
		v.SetUint(v.Uint() + 1)
	case reflect.Float64:
		v.SetFloat(v.Float() / 2)
	case reflect.Pointer:
		next := reflect.New(v.Type().Elem())
		next.Elem().Set(v.Elem())
		change(next.Elem())
		v.Set(next)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.Zero(v.Type().Key()), reflect.Zero(v.Type().Elem()))
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	default: // a secret
		v.Set(reflect.ValueOf(secret.NewText("x")))
	}
}
