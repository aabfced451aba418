package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// Each testdata/bad-X.yml has a bad-X.want with the exact error.
func TestLoadBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad-*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(strings.TrimSuffix(file, ".yml") + ".want")
			if err != nil {
				t.Fatal(err)
			}
			c, err := Load(file)
			if err == nil {
				t.Fatalf("no error, but %+v", c)
			}
			if d := cmp.Diff(string(want), filepath.ToSlash(err.Error())+"\n"); d != "" {
				t.Errorf("want -, got +:\n%s", d)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the error shows a secret")
			}
		})
	}
}

func TestLoadGood(t *testing.T) {
	files, err := filepath.Glob("testdata/good-*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, file := range files {
		if _, err := Load(file); err != nil {
			t.Error(err)
		}
	}
}

func TestLoadFull(t *testing.T) {
	c, err := Load("testdata/good-full.yml")
	if err != nil {
		t.Fatal(err)
	}
	f := func(what string, got, want any) {
		t.Helper()
		if !cmp.Equal(got, want) {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	f("rpc.listen", c.RPC.Listen, "10.0.0.1:8060")
	f("rpc.token_files", c.RPC.TokenFiles, []string{"/etc/sipwake/rpc.token"})
	f("rpc.deadline", c.RPC.Deadline, 300*time.Millisecond)
	f("operations.listen", c.Operations.Listen, "127.0.0.1:9000")
	f("operations.exemplars", c.Operations.Exemplars, true)
	f("log.level", c.Log.Level.String(), "DEBUG")
	f("store.type", c.Store.Type, StoreRedis)
	f("store.redis.addresses", c.Store.Redis.Addresses, []string{"10.0.0.2:6379"})
	f("store.redis's recent time", c.Store.Redis.Recent, 4*time.Second)
	f("wake.reject_555", c.Wake.Reject555, true)
	f("nodes[1].id", c.Nodes[1].ID, "sip2.example-2")
	f("nodes[1].type", c.Nodes[1].Type, NodeKamailio)
	f("apns[0].team_id", c.APNs[0].TeamID, "1234567890")
	f("apns[0].key_id", c.APNs[0].KeyID, "12345E6789")
	f("apns[0].in_flight", c.APNs[0].InFlight, 100)
	f("apns[1].certificate_password", c.APNs[1].CertificatePassword.Reveal(), "pass: word")
	f("apns[1].environment", c.APNs[1].Environment, pnparam.Sandbox)
}

func TestLoadUnreadable(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.yml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
	dir := t.TempDir()
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a directory gives %v", err)
	}
}

// What the parts find when they read the files that a configuration names must
// be reported with its place as well.
func TestProblems(t *testing.T) {
	c, err := Load("testdata/good-full.yml")
	if err != nil {
		t.Fatal(err)
	}
	p := c.Problems()
	p.Add("rpc", nil)
	if p.Err() != nil {
		t.Fatalf("nil is a problem: %v", p.Err())
	}
	p.Add("apns[1]", errors.Join(errors.New("certificate_file: no such file"), errors.New("tls: bad\ncertificate")))
	p.Add("apns[1]", errors.New("topic: is another one"))
	p.Add("rpc", errors.New("token_files[0]: is empty"))
	p.Add("apns[7].x", errors.New("what"))
	want := `testdata/good-full.yml:3: rpc.token_files[0]: is empty
testdata/good-full.yml:28: apns[7].x: what
testdata/good-full.yml:34: apns[1]: tls: bad; certificate
testdata/good-full.yml:34: apns[1].topic: is another one
testdata/good-full.yml:35: apns[1].certificate_file: no such file`
	if d := cmp.Diff(want, p.Err().Error()); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
	if p := new(Config).Problems(); p.Err() != nil {
		t.Errorf("a configuration without a file has problems: %v", p.Err())
	}
}

// A secret must not get into an error however the file around it is broken.
func TestErrorsHideSecrets(t *testing.T) {
	const secret = "hunter2hunter2"
	good, err := os.ReadFile("testdata/good-full.yml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(good), `"pass: word"`, secret)
	pos := strings.Index(text, secret)
	failed := 0
	for _, broken := range []string{"\t", "\n", "\"", "'", "[", "]", "{", "}", ": ", "%", "@", "`", "|", ">", "&", "*", "!", "\\", "- ", "? ", ",", "\x00", "\xff", "#"} {
		for at := pos - 25; at <= pos+len(secret)+1; at++ {
			if at > pos && at < pos+len(secret) {
				continue // that would split the secret itself
			}
			p := decode([]byte(text[:at]+broken+text[at:]), "x.yml", "", new(Config))
			if err := p.Err(); err != nil {
				failed++
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q at %d: %v", broken, at-pos, err)
				}
			}
		}
	}
	if failed < 100 {
		t.Errorf("only %d of the broken files are errors", failed)
	}
}

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := new(Config)
		p := decode(data, "x.yml", "", c)
		c.SetDefaults()
		c.Validate(p.report)
		lines := strings.Count(string(data), "\n") + strings.Count(string(data), "\r") + 1
		for _, q := range p.list {
			if q.line < 1 || q.line > lines+1 {
				t.Fatalf("line %d of %d: %s", q.line, lines, p.Error())
			}
		}
	})
}

// Only what begins with the word is a credential, in lists and sections too.
func TestLoadWithCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sipwake.yml")
	text := `rpc:
  token_files: ["${CREDENTIALS_DIRECTORY}/a", "x${CREDENTIALS_DIRECTORY}/b", "${CREDENTIALS_DIRECTORY}b", $HOME/c]
apns:
  - bundle_id: com.a
    certificate_file: ${CREDENTIALS_DIRECTORY}/voip.pem
    templates: {call: "${CREDENTIALS_DIRECTORY}/call.json"}
credentials_dir: ${CREDENTIALS_DIRECTORY}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := LoadWithCredentials(file, "/run/credentials/x")
	if err != nil {
		t.Fatal(err)
	}
	var call string
	for _, name := range c.APNs[0].Templates {
		call = name
	}
	got := append(slices.Clone(c.RPC.TokenFiles), c.APNs[0].CertificateFile, call, c.CredentialsDir)
	want := []string{"/run/credentials/x/a", "x${CREDENTIALS_DIRECTORY}/b", "${CREDENTIALS_DIRECTORY}b", "$HOME/c",
		"/run/credentials/x/voip.pem", "/run/credentials/x/call.json", "/run/credentials/x"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
}
