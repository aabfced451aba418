package webhook

import (
	"fmt"
	"log/slog"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

const minSecret = 16 // bytes

// payload is the default template: what the enclosing body does not say.
const payload = `{"to":"{TO}","from":"{FROMURI}","user":"{FROMUSERNAME}","display":"{FROMDISPLAYNAME}",` +
	`"call_id":"{CALLID}","uuid":"{UUID}","media":"{MEDIA}","title":"{TITLE}","body":"{BODY}","data":{"{DATA}":null}}`

// Config is one service of the operator.
type Config struct {
	// Provider is the pn-provider that the service pushes for, such as "hms".
	Provider string `yaml:"provider"`
	// Packages are the names by which clients call the app in pn-param. If empty,
	// the app serves clients that send no pn-param.
	Packages []string `yaml:"packages"`
	// URL is where pushes are posted: https, or http on this machine.
	URL string `yaml:"url"`
	// SecretFile holds the key for signing pushes, at least 16 bytes without the
	// line end.
	SecretFile string `yaml:"secret_file"`
	// CAFile holds PEM certificates that are trusted in addition to the system's.
	CAFile string `yaml:"ca_file"`

	// Limits apply to each of Packages.
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
	switch p, _ := pnparam.ProviderOf(c.Provider); p {
	case pnparam.APNs, pnparam.FCM, pnparam.WebPush, pnparam.Acrobits:
		report("provider", fmt.Sprintf("must not be %q: sipwake pushes for it itself", c.Provider))
	default:
		if problem := push.CheckProvider(c.Provider); problem != "" {
			report("provider", problem)
		}
	}
	push.CheckPackages(c.Packages, report)
	if problem := push.CheckURL(c.URL); problem != "" {
		report("url", problem)
	}
	if c.SecretFile == "" {
		report("secret_file", "must be set")
	}
	c.Limits.Validate(report)
	c.Policy.Validate(func(field, problem string) { report("policy."+field, problem) })
}

// Apps reads the files and returns an app for each package. The apps do not connect,
// and share their connections. An error begins with the yaml name of the wrong field.
// Call SetDefaults and Validate first.
func (c *Config) Apps(log *slog.Logger) ([]push.App, error) {
	key, err := secret.ReadText(c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("secret_file: %w", err)
	}
	if len(key.Reveal()) < minSecret {
		return nil, fmt.Errorf("secret_file: %s must hold at least %d bytes", c.SecretFile, minSecret)
	}
	tlsConfig, ca, err := push.TLSConfig(c.CAFile)
	if err != nil {
		return nil, err
	}
	templates := push.DefaultTemplates(pnparam.Provider(c.Provider))
	for _, k := range push.Kinds() {
		if templates, err = templates.With(k, "", []byte(payload)); err != nil {
			panic("BUG: default template: " + err.Error())
		}
	}
	fingerprint := push.Fingerprint(fmt.Sprintf("%q %+v", c.URL, c.Limits), key.Reveal(), string(ca))

	packages := c.Packages
	if len(packages) == 0 {
		packages = []string{""}
	}
	poster, chain := push.NewPoster(tlsConfig, c.InFlight)
	answers := push.NewAnswers(Answers())
	skew := push.NewSkew(log, c.Provider, c.URL)
	apps := make([]push.App, len(packages))
	for i, name := range packages {
		apps[i] = push.App{
			Provider: pnparam.Provider(c.Provider),
			Packages: []string{name},
			Default:  true,
			Client: &Provider{
				provider: pnparam.Provider(c.Provider), app: name, url: c.URL, sign: signer(key), poster: poster,
				answers: answers, skew: skew,
			},
			Limits:      c.Limits,
			Templates:   templates,
			Policy:      c.Policy,
			Chain:       chain,
			Fingerprint: fingerprint,
		}
	}
	return apps, nil
}
