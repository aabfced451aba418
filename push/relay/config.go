package relay

import (
	"fmt"
	"log/slog"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

// Config is the sipwake of an app's maker.
type Config struct {
	// Provider is the phones' pn-provider, such as "apns".
	Provider string `yaml:"provider"`
	// Packages are the names by which phones call the app. If empty, the app serves
	// phones that name none, as with Web Push.
	Packages []string `yaml:"packages"`
	// AnyPackage makes the app also serve packages of the provider that no other app
	// has.
	AnyPackage bool `yaml:"any_package"`
	// URL is the maker's RPC address: https, or http on this machine.
	URL string `yaml:"url"`
	// TokenFile holds the token issued by the maker.
	TokenFile string `yaml:"token_file"`
	// CAFile holds PEM certificates that are trusted in addition to the system's.
	CAFile string `yaml:"ca_file"`

	// Limits apply to all Packages together.
	push.Limits `yaml:",inline"`
	// Policy says when the app's devices are pushed.
	Policy push.Policy `yaml:"policy"`
}

// SetDefaults sets the zero fields.
func (c *Config) SetDefaults() {
	c.Limits.SetDefaults()
	c.Policy.SetDefaults(pnparam.Provider(c.Provider))
}

// Validate reports every problem that can be found without reading files. Call
// SetDefaults first.
func (c *Config) Validate(report func(field, problem string)) {
	if problem := push.CheckProvider(c.Provider); problem != "" {
		report("provider", problem)
	}
	push.CheckPackages(c.Packages, report)
	if len(c.Packages) == 0 && !c.AnyPackage && (c.Provider == "apns" || c.Provider == "fcm") {
		report("packages", "must be set, or any_package: phones name their app")
	}
	if push.CheckURL(c.URL) != "" {
		report("url", "must be the https address of the other sipwake's RPC, such as https://push.example.com/rpc")
	}
	if c.TokenFile == "" {
		report("token_file", "must be set")
	}
	c.Limits.Validate(report)
	c.Policy.Validate(func(field, problem string) { report("policy."+field, problem) })
}

// Apps reads the files and returns the app. It does not connect. An error begins with
// the yaml name of the wrong field. Call SetDefaults and Validate first.
func (c *Config) Apps(_ *slog.Logger) ([]push.App, error) {
	token, err := secret.ReadText(c.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("token_file: %w", err)
	}
	tlsConfig, ca, err := push.TLSConfig(c.CAFile)
	if err != nil {
		return nil, err
	}
	provider := pnparam.Provider(c.Provider)
	templates := push.DefaultTemplates(provider)
	for _, k := range push.Kinds() {
		services := []pnparam.Service{""}
		if provider == pnparam.APNs {
			services = []pnparam.Service{"", pnparam.VoIP, pnparam.Remote}
		}
		for _, s := range services {
			if templates, err = templates.With(k, s, []byte(values)); err != nil {
				panic("BUG: default template: " + err.Error())
			}
		}
	}
	packages := c.Packages
	if len(packages) == 0 && !c.AnyPackage {
		packages = []string{""}
	}
	if len(packages) == 0 {
		packages = []string{"relay"}
	}
	poster, chain := push.NewPoster(tlsConfig, c.InFlight)
	return []push.App{{
		Provider:    provider,
		Packages:    packages,
		Any:         c.AnyPackage,
		Default:     true,
		Client:      &Provider{provider: provider, url: c.URL, token: token, answers: push.NewAnswers(Answers()), poster: poster},
		Limits:      c.Limits,
		Templates:   templates,
		Policy:      c.Policy,
		Chain:       chain,
		Fingerprint: push.Fingerprint(fmt.Sprintf("%q %q %+v", c.Provider, c.URL, c.Limits), token.Reveal(), string(ca)),
	}}, nil
}
