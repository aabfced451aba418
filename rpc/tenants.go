package rpc

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/limit"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
)

// Tenant is a customer of the service. A caller with one of its tokens sees and pushes
// only the tenant's own users and devices.
type Tenant struct {
	// Name is the name under which the tenant's pushes are stored.
	Name string `yaml:"name"`
	// TokenFiles are files with one bearer token each. Any of the tokens is accepted.
	TokenFiles []string `yaml:"token_files"`
	// Domains are the domains of its users. None: users of every domain, by Apps.
	Domains []string `yaml:"domains"`
	// Apps are the apps of its devices, as phones name them. None: every app.
	Apps []string `yaml:"apps"`
	// RateLimit is how many requests per second it may send, and the maximum number of
	// users per second of a push.many. Default 20.
	RateLimit int `yaml:"rate_limit"`
	// HTTPPush is like Config.HTTPPush, with a token that pushes only the tenant's users.
	HTTPPush HTTPPush `yaml:"http_push"`
}

// maxTenants limits the number of tenants, and so the memory for them.
const maxTenants = 1000

// tenantInFlight limits the concurrent requests of one tenant.
const tenantInFlight = 16

var tenantName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (c *Config) validateTenants(report func(field, problem string)) {
	if len(c.Tenants) > 0 && len(c.TokenFiles) == 0 {
		report("tenants", "need token_files: the operator and the SIP proxies must show a token too")
	}
	if len(c.Tenants) > maxTenants {
		report("tenants", fmt.Sprint("are more than ", maxTenants))
	}
	first := map[string]int{}
	for i := range c.Tenants {
		t, field := &c.Tenants[i], fmt.Sprintf("tenants[%d]", i)
		if !tenantName.MatchString(t.Name) {
			report(field+".name", "must be 1 to 64 letters, digits, dots, hyphens and underscores, the first a letter or digit")
		} else if t.Name == operatorName {
			report(field+".name", "is what the pushes of the operator are counted by")
		} else if j, ok := first[t.Name]; ok {
			report(field+".name", fmt.Sprintf("is the name of tenants[%d] too", j))
		} else {
			first[t.Name] = i
		}
		t.validate(func(sub, problem string) { report(field+"."+sub, problem) })
	}
}

func (t *Tenant) validate(report func(field, problem string)) {
	if len(t.TokenFiles) == 0 && t.HTTPPush.TokenFile == "" {
		report("token_files", "is missing")
	}
	if len(t.Domains) == 0 && len(t.Apps) == 0 {
		report("domains", "is missing; give domains, apps or both")
	}
	for i, d := range t.Domains {
		if d == "" || strings.ContainsAny(d, "@*; \t") || strings.ToLower(d) != d {
			report(fmt.Sprintf("domains[%d]", i), "must be the domain of users in lower case, such as example.com")
		}
	}
	for i, a := range t.Apps {
		if a == "" {
			report(fmt.Sprintf("apps[%d]", i), "is empty")
		}
	}
	if t.RateLimit < 1 {
		report("rate_limit", "must be at least 1")
	}
	t.HTTPPush.validate(report)
	if d := t.HTTPPush.Domain; d != "" && len(t.Domains) > 0 && !slices.Contains(t.Domains, d) {
		report("http_push.domain", "is none of domains")
	}
}

// tenant is the runtime state of a Tenant; nil stands for the operator.
type tenant struct {
	wake.Caller
	rate     int
	inFlight atomic.Int64
	cursors  cipher.AEAD
}

// newTenant returns the tenant. The key for its cursors is derived from its first token,
// so that all instances can read them.
func newTenant(c *Tenant, token secret.Text) *tenant {
	key := sha256.Sum256([]byte("sipwake cursor of " + c.Name + "\x00" + token.Reveal()))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("BUG: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return &tenant{Caller: wake.Caller{Name: c.Name, Scope: &wake.Scope{Domains: c.Domains, Apps: c.Apps}},
		rate: c.RateLimit, cursors: aead}
}

// caller returns the tenant as the wake.Caller for the rules.
func (t *tenant) caller() wake.Caller {
	if t == nil {
		return wake.Caller{}
	}
	return t.Caller
}

// enter reports whether the tenant may have one more concurrent request. If so, call
// leave when it is done.
func (t *tenant) enter() bool {
	if t != nil && t.inFlight.Add(1) > tenantInFlight {
		t.inFlight.Add(-1)
		return false
	}
	return true
}

// counted returns the tenant whose concurrent requests a request of the method counts
// for. Relayed pushes wait for push services and have a separate limit.
func (t *tenant) counted(method string) *tenant {
	if method == "push.relay" {
		return nil
	}
	return t
}

func (t *tenant) leave() {
	if t != nil {
		t.inFlight.Add(-1)
	}
}

// limits returns the tenant's rate limit.
func (t *tenant) limits() limit.Rate { return limit.Per(time.Second, t.rate) }

// seal encrypts a cursor: it may contain the ID and the time of another tenant's call or
// push, at which the page ended.
func (t *tenant) seal(cursor string) string {
	if t == nil || cursor == "" {
		return cursor
	}
	nonce := make([]byte, t.cursors.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return base64.RawURLEncoding.EncodeToString(t.cursors.Seal(nonce, nonce, []byte(cursor), nil))
}

// unseal decrypts a cursor.
func (t *tenant) unseal(cursor string) (string, error) {
	if t == nil || cursor == "" {
		return cursor, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if n := t.cursors.NonceSize(); err == nil && len(b) > n {
		if open, err := t.cursors.Open(nil, b[:n], b[n:], nil); err == nil {
			return string(open), nil
		}
	}
	return "", &wake.ParamError{Field: "cursor", Problem: "is not one of an earlier answer"}
}

// forTenants reports whether a tenant may call the method, which must then respect the
// tenant's scope. All other methods, and so every new one until it is listed here, are
// for the operator and the SIP proxies.
func forTenants(method string) bool {
	switch method {
	case "binding.list", "binding.remove", "binding.export",
		"wake.trace",
		"upper.list", "upper.refresh", "upper.remove",
		"push.send", "push.many", "push.list", "push.status", "push.stop", "push.resume", "push.relay",
		"rpc.discover":
		return true
	}
	return false
}

// errNotForTenants returns the error for a tenant that calls another method.
func errNotForTenants(method string) *rpcError {
	if !tenantMethod.MatchString(method) {
		method = "this method"
	}
	return &rpcError{Code: codeNotAllowed, Message: "not allowed: " + method + " is for the operator, and this token is that of a tenant"}
}

// tenantMethod matches method names that an error may quote.
var tenantMethod = regexp.MustCompile(`^[a-z]{1,16}\.[a-z]{1,16}$`)
