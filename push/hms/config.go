package hms

import (
	"fmt"
	"log/slog"
	"strings"

	"golang.org/x/oauth2/clientcredentials"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

// Config is one app at Huawei.
type Config struct {
	// ClientID is the app's OAuth 2.0 client ID, and also a name by which phones
	// call it.
	ClientID string `yaml:"client_id"`
	// ClientSecretFile holds the client secret.
	ClientSecretFile string `yaml:"client_secret_file"`
	// ProjectID is for a project with several senders; the client is then the
	// project's.
	ProjectID string `yaml:"project_id"`
	// Packages are further names by which phones call the app.
	Packages []string `yaml:"packages"`
	// AnyPackage makes the app also serve packages that no other app has.
	AnyPackage bool `yaml:"any_package"`
	// Endpoint is Push Kit's URL. TokenURL is where Huawei issues access tokens.
	Endpoint string `yaml:"endpoint"`
	TokenURL string `yaml:"token_url"`
	// CAFile holds PEM certificates that are trusted in addition to the system's.
	CAFile string `yaml:"ca_file"`

	push.Limits  `yaml:",inline"`
	push.Options `yaml:",inline"`
	// Policy says when the app's devices are pushed.
	Policy push.Policy `yaml:"policy"`
}

// SetDefaults sets the zero fields.
func (c *Config) SetDefaults() {
	if c.Endpoint == "" {
		c.Endpoint = "https://push-api.cloud.huawei.com"
	}
	if c.TokenURL == "" {
		c.TokenURL = "https://oauth-login.cloud.huawei.com/oauth2/v3/token"
	}
	if c.Policy.Cancel == "" {
		c.Policy.Cancel = push.CancelPushed // the push itself shows the call
	}
	c.Limits.SetDefaults()
	c.Policy.SetDefaults(pnparam.HMS)
}

// Validate reports every problem that can be found without reading files. Call
// SetDefaults first.
func (c *Config) Validate(report func(field, problem string)) {
	if !id(c.ClientID) {
		report("client_id", "must be the OAuth 2.0 client ID of the app, such as 101234567")
	}
	if c.ProjectID != "" && !id(c.ProjectID) {
		report("project_id", "must be the ID of the project at Huawei")
	}
	if c.ClientSecretFile == "" {
		report("client_secret_file", "must be set")
	}
	push.CheckPackages(c.Packages, report)
	if problem := push.CheckURL(c.Endpoint); problem != "" {
		report("endpoint", problem)
	}
	if problem := push.CheckURL(c.TokenURL); problem != "" {
		report("token_url", problem)
	}
	c.Limits.Validate(report)
	c.Options.Validate(pnparam.HMS, report)
	c.Policy.Validate(func(field, problem string) { report("policy."+field, problem) })
}

// id reports whether s can be part of a path.
func id(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	return s != "" && strings.Trim(s, allowed) == ""
}

// Apps reads the files and returns the app. It does not connect. An error begins with
// the yaml name of the wrong field. Call SetDefaults and Validate first.
func (c *Config) Apps(_ *slog.Logger) ([]push.App, error) {
	key, err := secret.ReadText(c.ClientSecretFile)
	if err != nil {
		return nil, fmt.Errorf("client_secret_file: %w", err)
	}
	templates, err := c.Load(pnparam.HMS, push.TemplateRules{Defaults: defaults(), Limit: maxPayload, Check: check})
	if err != nil {
		return nil, err
	}
	tlsConfig, ca, err := push.TLSConfig(c.CAFile)
	if err != nil {
		return nil, err
	}
	url := strings.TrimSuffix(c.Endpoint, "/") + "/v1/" + c.ClientID + "/messages:send"
	if c.ProjectID != "" {
		url = strings.TrimSuffix(c.Endpoint, "/") + "/v2/" + c.ProjectID + "/messages:send"
	}
	poster, chain := push.NewPoster(tlsConfig, c.InFlight)
	grant := clientcredentials.Config{ClientID: c.ClientID, ClientSecret: key.Reveal(), TokenURL: c.TokenURL}
	return []push.App{{
		Provider:    pnparam.HMS,
		Packages:    append([]string{c.ClientID}, c.Packages...),
		Any:         c.AnyPackage,
		Default:     true,
		Client:      newProvider(url, grant, poster),
		Limits:      c.Limits,
		Templates:   templates,
		Policy:      c.Policy,
		Chain:       chain,
		Fingerprint: push.Fingerprint(fmt.Sprintf("%q %q %+v", url, c.TokenURL, c.Limits), key.Reveal(), string(ca)),
	}}, nil
}
