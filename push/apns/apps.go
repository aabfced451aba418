package apns

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

// Apps reads the key files and returns the app once for each environment in which its
// credential is valid: both for a key, or those that Apple wrote into the
// certificate. It does not connect. Each error begins with the yaml name of the wrong
// field; several are joined. Call SetDefaults and Validate first.
func (c *Config) Apps(log *slog.Logger) ([]push.App, error) {
	cred, err := c.credential(log)
	templates, templatesErr := c.Load(pnparam.APNs, push.TemplateRules{
		Edit: takeHeaders, MessageName: messageName, FromMessage: fromMessage,
	})
	if err != nil || templatesErr != nil {
		return nil, errors.Join(err, templatesErr)
	}
	environment := c.Environment
	if c.found && !slices.Contains(cred.environments, environment) {
		environment = cred.environments[0]
	}
	if !slices.Contains(cred.environments, environment) {
		return nil, fmt.Errorf("environment: must be %s, the only one that certificate_file %q is good for",
			cred.environments[0], c.CertificateFile)
	}
	apps := make([]push.App, 0, len(cred.environments))
	for _, env := range cred.environments {
		field, address := "endpoint", c.Endpoint
		if env == pnparam.Sandbox {
			field, address = "sandbox_endpoint", c.SandboxEndpoint
		}
		endpoint, err := parseEndpoint(address)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
		config, chain := cred.tls.Clone(), new(push.Chain)
		chain.Watch(config)
		apps = append(apps, push.App{
			Provider:          pnparam.APNs,
			Packages:          []string{c.BundleID},
			Environment:       env,
			Default:           env == environment,
			Client:            newProvider(endpoint, config, c.Connections, c.HTTP2, cred.signer, c.Topic, env),
			Limits:            c.Limits,
			BackgroundPerHour: c.BackgroundPerHour,
			Templates:         templates,
			Policy:            c.Policy,
			Fingerprint:       cred.fingerprint,
			CredentialExpiry:  cred.expires,
			Chain:             chain,
			Doubts:            c.doubts(cred),
		})
	}
	return apps, nil
}

type credential struct {
	tls          *tls.Config
	signer       *signer // nil with a certificate
	environments []pnparam.Environment
	expires      time.Time
	topics       []string // of the certificate, if it has any
	fingerprint  string
}

func (c *Config) credential(log *slog.Logger) (*credential, error) {
	config, ca, err := push.TLSConfig(c.CAFile)
	if err != nil {
		return nil, err
	}
	cred := &credential{tls: config}
	what := fmt.Sprintf("%q %q %q %q %q %q %d %d %q %+v", c.BundleID, c.Topic, c.TeamID, c.KeyID, c.Endpoint, c.SandboxEndpoint,
		c.Connections, c.BackgroundPerHour, c.HTTP2, c.Limits)
	var contents []byte
	if c.KeyFile != "" {
		contents, err = c.useKey(cred, log)
	} else {
		contents, err = c.useCertificate(cred, log)
	}
	if err != nil {
		return nil, err
	}
	cred.fingerprint = push.Fingerprint(what, string(ca), string(contents))
	return cred, nil
}

func (c *Config) useKey(cred *credential, log *slog.Logger) ([]byte, error) {
	contents, err := push.ReadField("key_file", c.KeyFile)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(contents)
	if err != nil {
		return nil, fmt.Errorf("key_file: %s %w", c.KeyFile, err)
	}
	cred.signer = newSigner(key, c.TeamID, c.KeyID, push.NewSkew(log, c.BundleID, c.Endpoint))
	cred.environments = c.Environments
	return contents, nil
}

// certificate reads the push certificate with its key, and also returns the contents
// of its file.
func (c *Config) certificate() ([]byte, tls.Certificate, error) {
	contents, err := push.ReadField("certificate_file", c.CertificateFile)
	if err != nil {
		return nil, tls.Certificate{}, err
	}
	password := c.CertificatePassword
	if c.CertificatePasswordFile != "" {
		if password, err = secret.ReadText(c.CertificatePasswordFile); err != nil {
			return nil, tls.Certificate{}, fmt.Errorf("certificate_password_file: %w", err)
		}
	}
	cert, err := parseCertificate(contents, password.Reveal())
	if err != nil {
		return nil, tls.Certificate{}, fmt.Errorf("certificate_file: %s %w", c.CertificateFile, err)
	}
	return contents, cert, nil
}

func (c *Config) useCertificate(cred *credential, log *slog.Logger) ([]byte, error) {
	contents, cert, err := c.certificate()
	if err != nil {
		return nil, err
	}
	cred.tls.Certificates = []tls.Certificate{cert}
	// With TLS 1.3 the client's handshake completes before the server checks the
	// client's certificate, and a refusal often looks like any lost connection.
	cred.tls.MaxVersion = tls.VersionTLS12
	cred.environments = certificateEnvironments(cert.Leaf)
	cred.expires = cert.Leaf.NotAfter
	cred.topics = certificateTopics(cert.Leaf)
	// Other apps must not fail with this one: its own pushes will fail, and say why.
	if time.Now().After(cred.expires) {
		log.Error("certificate has expired", "app", c.BundleID, "file", c.CertificateFile, "expired", cred.expires)
	}
	return contents, nil
}

// doubts returns what Apple is known to refuse.
func (c *Config) doubts(cred *credential) []string {
	var list []string
	if cred.signer != nil {
		for _, id := range []struct{ field, value string }{{"team_id", c.TeamID}, {"key_id", c.KeyID}} {
			if len(id.value) != appleIDLength {
				list = append(list, fmt.Sprintf("%s has %d characters, those of Apple have %d", id.field, len(id.value), appleIDLength))
			}
		}
	}
	if len(cred.topics) > 0 && !slices.Contains(cred.topics, c.Topic) && !slices.Contains(cred.topics, c.Topic+".voip") {
		list = append(list, fmt.Sprintf("certificate_file %q is for %q, and not for %q",
			c.CertificateFile, strings.TrimSuffix(cred.topics[0], ".voip"), c.Topic))
	}
	return list
}
