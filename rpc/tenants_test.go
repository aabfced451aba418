package rpc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const acmeToken = "b11d-token-of-a-tenant"

// withTenant is a configuration with a tenant that may send so many requests a second.
func withTenant(t *testing.T, rate int) Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tenant")
	if err := os.WriteFile(file, []byte(acmeToken), 0o600); err != nil {
		t.Fatal(err)
	}
	return withToken(t, Config{Tenants: []Tenant{{Name: "acme", TokenFiles: []string{file}, Domains: []string{"acme.example"}, RateLimit: rate}}})
}

const (
	asTenant = "Authorization: Bearer " + acmeToken + "\r\n"
	discover = `{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}`
)

// A tenant that sends too much is refused by its own bound, and nobody else is; what is
// not for tenants is refused to it.
func TestTenantLimits(t *testing.T) {
	s := serve(t, withTenant(t, 3), nil)
	conn := s.dial("")
	for range 3 {
		if status, body, _ := ask(t, conn, post(asTenant, discover)); status != 200 || !strings.Contains(body, "openrpc") {
			t.Fatalf("%d %s", status, body)
		}
	}
	if status, body, _ := ask(t, conn, post(asTenant, discover)); status != 503 || !strings.Contains(body, "-32002") {
		t.Errorf("one too many: %d %s", status, body)
	}
	if status, _, _ := ask(t, s.dial(""), post(proven, info)); status != 200 {
		t.Errorf("the operator: %d", status)
	}
	apart := serve(t, withTenant(t, 1000), nil)
	for _, body := range []string{info, `[` + info + `]`, `{"jsonrpc":"2.0","id":1,"method":"no.such"}`} {
		if _, answer, _ := ask(t, apart.dial(""), post(asTenant, body)); !strings.Contains(answer, `"code":-32005`) {
			t.Errorf("%s: %s", body, answer)
		}
	}
	by := newTenant(&Tenant{Name: "acme"}, apart.settings.Load().access.tokens[0])
	for range tenantInFlight {
		if !by.enter() {
			t.Fatal("no place")
		}
	}
	if by.enter() {
		t.Error("one more than the tenant's places")
	}
	by.leave()
	if !by.enter() {
		t.Error("no place after one was left")
	}
}

// A cursor says nothing, and is of use for nobody else.
func TestTenantCursors(t *testing.T) {
	secretOf := func(cfg Config) (*tenant, *tenant) {
		a, err := newAccess(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return a.tenants[0].tenant, newTenant(&Tenant{Name: "other"}, a.tenants[0].token)
	}
	mine, other := secretOf(withTenant(t, 5))
	sealed := mine.seal("id-of-somebody")
	if strings.Contains(sealed, "somebody") {
		t.Error(sealed)
	}
	if got, err := mine.unseal(sealed); err != nil || got != "id-of-somebody" {
		t.Errorf("%q, %v", got, err)
	}
	for name, f := range map[string]func() (string, error){
		"another's": func() (string, error) { return other.unseal(sealed) },
		"damaged":   func() (string, error) { return mine.unseal("A" + sealed) },
		"plain":     func() (string, error) { return mine.unseal("id") },
	} {
		if got, err := f(); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	var operator *tenant
	if got, err := operator.unseal(operator.seal("x")); got != "x" || err != nil {
		t.Errorf("the operator's: %q, %v", got, err)
	}
}

// A token that two files have would open two doors.
func TestTenantTokens(t *testing.T) {
	cfg := withTenant(t, 5)
	cfg.SetDefaults()
	if err := Check(cfg); err != nil {
		t.Fatal(err)
	}
	same := cfg
	same.Tenants = append(same.Tenants, Tenant{Name: "two", TokenFiles: cfg.Tenants[0].TokenFiles})
	if err := Check(same); err == nil || !strings.HasPrefix(err.Error(), "tenants[1].token_files[0]: ") {
		t.Errorf("two tenants: %v", err)
	}
	same.Tenants = []Tenant{{Name: "acme", TokenFiles: cfg.TokenFiles}}
	if err := Check(same); err == nil || !strings.HasPrefix(err.Error(), "tenants[0].token_files[0]: ") {
		t.Errorf("the operator's: %v", err)
	}
	if strings.Contains(Check(same).Error(), serveToken) {
		t.Error("the error holds the token")
	}
}

func TestTenantConfig(t *testing.T) {
	f := func(change func(*Config), want ...string) {
		t.Helper()
		c := Config{TokenFiles: []string{"x"}, Tenants: []Tenant{{Name: "a", TokenFiles: []string{"t"}, Domains: []string{"a.example"}}}}
		change(&c)
		c.SetDefaults()
		var got []string
		c.Validate(func(field, problem string) { got = append(got, field+": "+problem) })
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("\n got %s\nwant %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	one := func(change func(*Tenant)) func(*Config) { return func(c *Config) { change(&c.Tenants[0]) } }
	f(func(*Config) {})
	f(func(c *Config) { c.TokenFiles = nil }, "tenants: need token_files: the operator and the SIP proxies must show a token too")
	f(one(func(t *Tenant) { t.Name = "a b" }), "tenants[0].name: must be 1 to 64 letters, digits, dots, hyphens and underscores, the first a letter or digit")
	f(one(func(t *Tenant) { t.Name = "operator" }), "tenants[0].name: is what the pushes of the operator are counted by")
	f(func(c *Config) { c.Tenants = append(c.Tenants, c.Tenants[0]) }, "tenants[1].name: is the name of tenants[0] too")
	f(one(func(t *Tenant) { t.TokenFiles = nil }), "tenants[0].token_files: is missing")
	f(one(func(t *Tenant) { t.Domains = nil }), "tenants[0].domains: is missing; give domains, apps or both")
	f(one(func(t *Tenant) { t.Domains = nil; t.Apps = []string{"x", ""} }), "tenants[0].apps[1]: is empty")
	for _, bad := range []string{"", "A.example", "bob@a.example", "*.example"} {
		f(one(func(t *Tenant) { t.Domains[0] = bad }), "tenants[0].domains[0]: must be the domain of users in lower case, such as example.com")
	}
	f(one(func(t *Tenant) { t.RateLimit = -1 }), "tenants[0].rate_limit: must be at least 1")
	f(one(func(t *Tenant) { t.HTTPPush.Domain = "a.example" }), "tenants[0].http_push.domain: needs http_push.token_file")
	f(one(func(t *Tenant) { t.HTTPPush = HTTPPush{TokenFile: "x", Domain: "b.example"} }), "tenants[0].http_push.domain: is none of domains")
}

// A tenant's token is changed without a moment in which it has none: both are good, then
// the new one alone, on connections that are open too. Whose limits they count for stays.
func TestTenantTokenRotates(t *testing.T) {
	const next = "c4e2-next-token-of-the-tenant"
	cfg := withTenant(t, 1000)
	s := serve(t, cfg, nil)
	cfg.Listen = "127.0.0.1:0"
	cfg.SetDefaults()
	file := filepath.Join(t.TempDir(), "next")
	if err := os.WriteFile(file, []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
	reload := func(files ...string) {
		t.Helper()
		c := cfg
		c.Tenants = []Tenant{c.Tenants[0]}
		c.Tenants[0].TokenFiles = files
		apply, err := s.Prepare(c)
		if err != nil {
			t.Fatal(err)
		}
		apply()
	}
	old := cfg.Tenants[0].TokenFiles[0]
	kept := s.dial("")
	is := func(what string, wantOld, wantNext int) {
		t.Helper()
		for token, want := range map[string]int{acmeToken: wantOld, next: wantNext} {
			conn := s.dial("")
			status, body, _ := ask(t, conn, post("Authorization: Bearer "+token+"\r\n", discover))
			if status != want {
				t.Errorf("%s: %s… got %d, want %d", what, token[:4], status, want)
			}
			if _, answer, _ := ask(t, conn, post("Authorization: Bearer "+token+"\r\n", info)); want == 200 && !strings.Contains(answer, "-32005") {
				t.Errorf("%s: %s… is no tenant's any more: %s", what, token[:4], body)
			}
		}
	}
	is("before", 200, 401)
	if status, _, _ := ask(t, kept, post(asTenant, discover)); status != 200 {
		t.Errorf("%d", status)
	}
	reload(old, file)
	is("both", 200, 200)
	reload(file)
	is("after", 401, 200)
	if status, _, _ := ask(t, kept, post(asTenant, discover)); status != 401 {
		t.Errorf("the old token on an open connection: %d", status)
	}
	if _, err := s.Prepare(Config{Tenants: []Tenant{{Name: "acme", TokenFiles: []string{file + "-none"}}}}); err == nil {
		t.Error("a reload without the file")
	}
	is("after a reload that failed", 401, 200)
}
