package fcm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"

	"cloud.google.com/go/compute/metadata"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/oauth"
)

// federation is the part that we check of a credentials file without a Google key:
// external_account (workload identity federation) and impersonated_service_account.
// Google's library follows every address and would run every command in such a file.
// Those that no such file needs are refused.
type federation struct {
	Type             string      `json:"type"`
	Audience         string      `json:"audience"`
	TokenURL         string      `json:"token_url"`
	TokenInfoURL     string      `json:"token_info_url"`
	ImpersonationURL string      `json:"service_account_impersonation_url"`
	SubjectTokenType string      `json:"subject_token_type"`
	Source           *subject    `json:"credential_source"`
	From             *federation `json:"source_credentials"`

	TokenURI   string `json:"token_uri"` // for a service account
	PrivateKey string `json:"private_key"`
}

// subject is the source of the other identity provider's token.
type subject struct {
	File        string          `json:"file"`
	URL         string          `json:"url"`
	Executable  json.RawMessage `json:"executable"`
	Environment string          `json:"environment_id"`
	RegionURL   string          `json:"region_url"`
	SessionURL  string          `json:"imdsv2_session_token_url"`
	VerifyURL   string          `json:"regional_cred_verification_url"`
}

// check returns what is wrong with the file for an app that pushes to the endpoint:
// Google itself, or a stand-in for all of it.
func (f *federation) check(endpoint string) (problem string) {
	ours := func(field, address string) string {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" || u.User != nil || !googles(u.Hostname()) && "https://"+u.Host != strings.TrimSuffix(endpoint, "/") {
			return field + " is not an https URL at googleapis.com"
		}
		return ""
	}
	switch f.Type {
	case string(google.ServiceAccount): // below an impersonation
		if f.PrivateKey == "" {
			return "private_key is missing"
		}
		return ours("token_uri", f.TokenURI)
	case string(google.ImpersonatedServiceAccount):
		if f.From == nil {
			return "source_credentials are missing"
		}
		if !slices.Contains([]string{string(google.ServiceAccount), string(google.ExternalAccount)}, f.From.Type) {
			return "source_credentials must be a service_account or an external_account"
		}
		if problem = ours("service_account_impersonation_url", f.ImpersonationURL); problem == "" {
			problem = f.From.check(endpoint)
		}
		return problem
	}
	switch {
	case f.Audience == "":
		return "audience is missing"
	case f.SubjectTokenType == "":
		return "subject_token_type is missing"
	case f.Source == nil:
		return "credential_source is missing"
	}
	for _, u := range []struct {
		field, address string
		optional       bool
	}{{"token_url", f.TokenURL, false}, {"token_info_url", f.TokenInfoURL, true},
		{"service_account_impersonation_url", f.ImpersonationURL, true}} {
		if u.address == "" && u.optional {
			continue
		}
		if problem = ours(u.field, u.address); problem != "" {
			return problem
		}
	}
	return f.Source.check()
}

// googles reports whether the host is one of Google's APIs.
func googles(host string) bool {
	return strings.HasSuffix(strings.ToLower(host), ".googleapis.com")
}

// check returns what is wrong with the source of the other provider's token.
func (s *subject) check() string {
	switch {
	case len(s.Executable) > 0 && string(s.Executable) != "null":
		return "credential_source.executable is a program, which is not run; let it write a file"
	case strings.HasPrefix(s.Environment, "aws"):
		return s.checkAWS()
	case s.Environment != "":
		return "credential_source.environment_id is not known"
	case s.File != "":
		return ""
	case s.URL == "":
		return "credential_source has neither file nor url"
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !onThisMachine(u.Hostname())) {
		return "credential_source.url is neither https nor http to this machine's metadata server"
	}
	return ""
}

func (s *subject) checkAWS() string {
	for _, local := range []struct{ field, address string }{
		{"url", s.URL}, {"region_url", s.RegionURL}, {"imdsv2_session_token_url", s.SessionURL},
	} {
		if u, err := url.Parse(local.address); local.address != "" && (err != nil || u.Scheme != "http" || !onThisMachine(u.Hostname())) {
			return "credential_source." + local.field + " is not http to this machine's metadata server"
		}
	}
	u, err := url.Parse(strings.ReplaceAll(s.VerifyURL, "{region}", "region"))
	if err != nil || u.Scheme != "https" || !strings.HasSuffix(u.Hostname(), ".amazonaws.com") && !strings.HasSuffix(u.Hostname(), ".amazonaws.com.cn") {
		return "credential_source.regional_cred_verification_url is not an https URL at amazonaws.com"
	}
	return ""
}

// metadataHosts are the names of cloud metadata servers, in addition to their
// addresses.
var metadataHosts = []string{"metadata.google.internal", "localhost"}

// onThisMachine reports whether a host can only be this machine or its cloud's
// metadata server.
func onThisMachine(host string) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return slices.Contains(metadataHosts, host)
	}
	return addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr == netip.MustParseAddr("fd00:ec2::254")
}

// tokens gets access tokens. The client in ctx makes the requests, which end with
// ctx.
type tokens func(ctx context.Context) (*oauth2.Token, error)

// federatedTokens gets tokens by a file that passed check.
func federatedTokens(contents []byte, kind, scope string) tokens {
	return func(ctx context.Context) (*oauth2.Token, error) {
		c, err := google.CredentialsFromJSONWithType(ctx, contents, google.CredentialsType(kind), scope)
		if err != nil {
			return nil, err
		}
		tok, err := c.TokenSource.Token()
		if err == nil {
			return tok, nil
		}
		if lack := unreadable(contents); push.Starved(lack) {
			err = lack
		}
		return nil, err
	}
}

// unreadable returns why the subject's file cannot be opened, which Google's library
// does not say. It returns nil if it can be opened or if there is none.
func unreadable(contents []byte) error {
	var f federation
	if err := json.Unmarshal(contents, &f); err != nil {
		return err
	}
	if f.From != nil {
		f = *f.From
	}
	if f.Source == nil || f.Source.File == "" {
		return nil
	}
	file, err := os.Open(f.Source.File)
	if err != nil {
		return err
	}
	return file.Close()
}

// metadataTokens gets tokens from the metadata server of the Google Cloud machine
// that sipwake runs on, for the machine's service account.
func metadataTokens(scope string) tokens {
	return func(ctx context.Context) (*oauth2.Token, error) { return metadataToken(ctx, scope) }
}

func metadataToken(ctx context.Context, scope string) (*oauth2.Token, error) {
	hc, _ := ctx.Value(oauth2.HTTPClient).(*http.Client)
	text, err := metadata.NewClient(hc).GetWithContext(ctx, "instance/service-accounts/default/token?scopes="+url.QueryEscape(scope))
	if err != nil {
		return nil, err
	}
	t := new(oauth2.Token)
	if err := json.Unmarshal([]byte(text), t); err != nil || t.AccessToken == "" || t.ExpiresIn <= 0 {
		return nil, errors.New("the answer has no token")
	}
	return t, nil
}

// notForMachine is http.ProxyFromEnvironment, but uses no proxy for this machine's
// own metadata server.
func notForMachine(req *http.Request) (*url.URL, error) {
	if onThisMachine(req.URL.Hostname()) {
		return nil, nil
	}
	return http.ProxyFromEnvironment(req)
}

// noToken explains why there is no token. Of the answer it reveals only the error's
// name.
func (t *boundTransport) noToken(err error) *oauth.Error {
	var unreachable net.Error
	switch {
	case push.Starved(t.err), t.status == 0 && push.Starved(err):
		return &oauth.Error{Word: "this machine has no more files or ports", Starved: true}
	case t.err != nil:
		return &oauth.Error{Word: push.Clean(t.err.Error(), "")}
	case t.status >= http.StatusBadRequest:
		return &oauth.Error{Status: t.status, Word: strings.TrimSpace(t.host + " " + errorName(t.body))}
	case errors.As(err, &unreachable):
		return &oauth.Error{Word: "no connection"}
	case t.status == 0:
		return &oauth.Error{Word: "the token of the other provider cannot be read"}
	}
	return &oauth.Error{Status: t.status, Word: fmt.Sprintf("%s does not answer as OAuth 2.0 wants it", t.host)}
}

// errorName returns the name of an error of RFC 6749 section 5.2 or of Google's APIs.
func errorName(body []byte) string {
	var plain struct {
		Error string `json:"error"`
	}
	var google struct {
		Error struct {
			Status string `json:"status"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &plain) == nil {
		return push.Word(plain.Error)
	}
	_ = json.Unmarshal(body, &google) // the status says enough
	return push.Word(google.Error.Status)
}
