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

// Tenant is a customer of the service: who shows one of its tokens sees and pushes
// its users and devices, and nothing of others.
type Tenant struct {
	// Name is what the pushes of the tenant are kept under.
	Name string `yaml:"name"`
	// TokenFiles are files with one bearer token each; any of them will do.
	TokenFiles []string `yaml:"token_files"`
	// Domains are those of its users. None: users of every domain, by Apps.
	Domains []string `yaml:"domains"`
	// Apps are those of its devices, as phones name them. None: every app.
	Apps []string `yaml:"apps"`
	// RateLimit is how many requests a second it may send, and the most users a
	// second of a push.many. Default 20.
	RateLimit int `yaml:"rate_limit"`
	// HTTPPush is as that of Config, with a token that pushes the tenant's users.
	HTTPPush HTTPPush `yaml:"http_push"`
}

// maxTenants bounds what is kept for each tenant.
const maxTenants = 1000

// tenantInFlight is how many requests of one tenant are worked on at once.
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

// tenant is a Tenant while the service runs; nil stands for the operator.
type tenant struct {
	wake.Caller
	rate     int
	inFlight atomic.Int64
	cursors  cipher.AEAD
}

// newTenant returns the tenant; its cursors are sealed with what follows from its
// first token, so that all instances read them.
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

// caller returns who it is for the rules.
func (t *tenant) caller() wake.Caller {
	if t == nil {
		return wake.Caller{}
	}
	return t.Caller
}

// enter reports whether one more request of the tenant may be worked on; if so,
// leave is to be called when it is done.
func (t *tenant) enter() bool {
	if t != nil && t.inFlight.Add(1) > tenantInFlight {
		t.inFlight.Add(-1)
		return false
	}
	return true
}

// counted is who a request of the method counts for; relayed pushes, which wait for push
// services, have a bound of their own.
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

// limits is what a tenant may send a second.
func (t *tenant) limits() limit.Rate { return limit.Per(time.Second, t.rate) }

// seal makes a cursor unreadable: it may hold the ID and the time of a call or a push
// of somebody else, at which the page ended.
func (t *tenant) seal(cursor string) string {
	if t == nil || cursor == "" {
		return cursor
	}
	nonce := make([]byte, t.cursors.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return base64.RawURLEncoding.EncodeToString(t.cursors.Seal(nonce, nonce, []byte(cursor), nil))
}

// unseal returns the cursor that seal was given.
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

// forTenants reports whether a tenant may call the method, which then keeps to its
// scope. All others are for the operator and the SIP proxies: a new method is, until
// it is named here.
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

// errNotForTenants is what a tenant is told that calls another method.
func errNotForTenants(method string) *rpcError {
	if !tenantMethod.MatchString(method) {
		method = "this method"
	}
	return &rpcError{Code: codeNotAllowed, Message: "not allowed: " + method + " is for the operator, and this token is that of a tenant"}
}

// tenantMethod is what a method's name looks like that may be quoted.
var tenantMethod = regexp.MustCompile(`^[a-z]{1,16}\.[a-z]{1,16}$`)
