package fcm

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2/google"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

// Config is one Firebase project.
type Config struct {
	// ProjectID defaults to that of the credentials file.
	ProjectID string `yaml:"project_id"`
	// Packages are further names that clients may use for the app in pn-param, such
	// as Android package names.
	Packages []string `yaml:"packages"`
	// AnyPackage makes the app also serve the packages that no other app has. Only
	// one app may set it.
	AnyPackage bool `yaml:"any_package"`
	// CredentialsFile is Google's JSON file: the key of a service account, workload
	// identity federation (external_account), or impersonation.
	CredentialsFile string `yaml:"credentials_file"`
	// MetadataServer uses the service account of the Google Cloud machine that
	// sipwake runs on.
	MetadataServer bool `yaml:"metadata_server"`
	// Endpoint replaces Google's host.
	Endpoint string `yaml:"endpoint"`
	// CAFile holds PEM certificates that are trusted in addition to the system's.
	CAFile string `yaml:"ca_file"`

	// DeliveryData lists the Firebase IDs of the Android apps for which Google is
	// asked how pushes fared. If empty, Google is not asked.
	DeliveryData []string `yaml:"delivery_data"`

	// Notification says which kinds show a notification without the app's help,
	// whatever their templates say. Default NotificationAuto.
	Notification Notification `yaml:"notification"`

	push.Limits  `yaml:",inline"`
	push.Options `yaml:",inline"`
	// Policy says when the app's devices are pushed.
	Policy push.Policy `yaml:"policy"`
}

const googleEndpoint = "https://fcm.googleapis.com"

// dataAddress returns the address of the FCM Data API, or of the stand-in for all of
// Google.
func dataAddress(endpoint string) string {
	if endpoint == googleEndpoint {
		return dataHost
	}
	return strings.TrimSuffix(endpoint, "/")
}

// SetDefaults sets the zero fields.
func (c *Config) SetDefaults() {
	if c.Endpoint == "" {
		c.Endpoint = googleEndpoint
	}
	if c.Notification == "" {
		c.Notification = NotificationAuto
	}
	c.Limits.SetDefaults()
	c.Policy.SetDefaults(pnparam.FCM)
}

// Validate reports every problem that can be found without reading files. Call
// SetDefaults first.
func (c *Config) Validate(report func(field, problem string)) {
	switch {
	case c.CredentialsFile == "" && !c.MetadataServer:
		report("credentials_file", "must be set, or metadata_server instead")
	case c.CredentialsFile != "" && c.MetadataServer:
		report("metadata_server", "must not be set together with credentials_file")
	case c.MetadataServer && c.ProjectID == "":
		report("project_id", "must be set for metadata_server")
	}
	if c.ProjectID != "" && !name(c.ProjectID) {
		report("project_id", "must have letters, digits, dots, colons and hyphens only")
	}
	for i, p := range c.Packages {
		switch {
		case !name(p):
			report(fmt.Sprintf("packages[%d]", i), "must have letters, digits, dots, colons, hyphens and underscores only")
		case slices.Contains(c.Packages[:i], p):
			report(fmt.Sprintf("packages[%d]", i), fmt.Sprintf("%q is there twice", p))
		}
	}
	for i, id := range c.DeliveryData {
		if !appID(id) {
			report(fmt.Sprintf("delivery_data[%d]", i), "must be an Android app's ID in Firebase, such as 1:1234567890:android:321abc456def7890")
		}
	}
	if !endpoint(c.Endpoint) {
		report("endpoint", fmt.Sprintf("must be an https URL of host and port only, is %q", c.Endpoint))
	}
	if !c.Notification.valid() {
		report("notification", "must be auto, keep, calls, always or never")
	}
	c.Limits.Validate(report)
	c.Options.Validate(pnparam.FCM, report)
	c.Policy.Validate(func(field, problem string) { report("policy."+field, problem) })
}

func name(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:-_"
	return s != "" && strings.Trim(s, allowed) == ""
}

func endpoint(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil &&
		strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == ""
}

// Apps reads the credentials and returns the project's app. It does not connect. Each
// error begins with the yaml name of the wrong field; several are joined. Call
// SetDefaults and Validate first.
func (c *Config) Apps(log *slog.Logger) ([]push.App, error) {
	account, err := c.account()
	templates, templatesErr := c.Load(pnparam.FCM, c.templateRules())
	if err != nil || templatesErr != nil {
		return nil, errors.Join(err, templatesErr)
	}
	tlsConfig, ca, err := push.TLSConfig(c.CAFile)
	if err != nil {
		return nil, err
	}
	s, err := c.source(account, tlsConfig, scope, log)
	if err != nil {
		return nil, err
	}
	config, chain := tlsConfig.Clone(), new(push.Chain)
	chain.Watch(config)
	client, err := newProvider(account.ProjectID, c.Endpoint, newPool(config), s)
	if err != nil {
		return nil, fmt.Errorf("project_id: %w", err)
	}
	if len(c.DeliveryData) > 0 {
		asks, err := c.source(account, tlsConfig, dataScope, log)
		if err != nil {
			return nil, err
		}
		client.data = &data{source: asks, address: dataAddress(c.Endpoint), project: account.ProjectID, apps: c.DeliveryData}
	}
	what := fmt.Sprintf("%q %q %v %q %+v", account.ProjectID, c.Endpoint, c.MetadataServer, c.DeliveryData, c.Limits)
	packages := []string{account.ProjectID}
	for _, p := range c.Packages {
		if p != account.ProjectID {
			packages = append(packages, p)
		}
	}
	return []push.App{{
		Provider:    pnparam.FCM,
		Packages:    packages,
		Any:         c.AnyPackage,
		Default:     true,
		Client:      client,
		Limits:      c.Limits,
		Templates:   templates,
		Policy:      c.Policy,
		Chain:       chain,
		Doubts:      doubts(templates),
		Fingerprint: push.Fingerprint(what, string(account.contents), string(ca)),
	}}, nil
}

// source returns the source of the account's access tokens for the scope.
func (c *Config) source(a *account, tlsConfig *tls.Config, scope string, log *slog.Logger) (*source, error) {
	s := newSource(newTransport(tlsConfig), push.NewSkew(log, a.ProjectID, a.TokenURI), time.Now)
	s.transport.Proxy = notForMachine
	switch {
	case c.MetadataServer:
		s.other = metadataTokens(scope)
		return s, nil
	case a.Type != string(google.ServiceAccount):
		s.other = federatedTokens(a.contents, a.Type, scope)
		return s, nil
	}
	var err error
	if s.config, err = google.JWTConfigFromJSON(a.contents, scope); err != nil {
		return nil, fmt.Errorf("credentials_file: %s is not a service account: %w", c.CredentialsFile, err)
	}
	return s, nil
}

// account is the part of the credentials file that we check.
type account struct {
	Type       string `json:"type"`
	ProjectID  string `json:"project_id"`
	Email      string `json:"client_email"`
	PrivateKey string `json:"private_key"`
	TokenURI   string `json:"token_uri"`

	contents []byte
}

// account reads the credentials file. Its errors do not quote the file.
func (c *Config) account() (*account, error) {
	if c.MetadataServer {
		return &account{ProjectID: c.ProjectID}, nil
	}
	contents, err := push.ReadField("credentials_file", c.CredentialsFile)
	if err != nil {
		return nil, err
	}
	a := &account{contents: contents}
	if json.Unmarshal(contents, a) != nil {
		return nil, fmt.Errorf("credentials_file: %s is not the JSON file of a service account (it is not valid JSON)", c.CredentialsFile)
	}
	problem := "its type is not service_account, external_account or impersonated_service_account"
	switch a.Type {
	case string(google.ServiceAccount):
		problem = a.keyProblem()
	case string(google.ExternalAccount), string(google.ImpersonatedServiceAccount):
		f := new(federation)
		if problem = "it has a field of the wrong type"; json.Unmarshal(contents, f) == nil {
			problem = f.check(c.Endpoint)
		}
	}
	if problem != "" {
		return nil, fmt.Errorf("credentials_file: %s is not the JSON file of a service account (%s)", c.CredentialsFile, problem)
	}
	if c.ProjectID != "" {
		a.ProjectID = c.ProjectID
	}
	if !name(a.ProjectID) {
		return nil, fmt.Errorf("project_id: must be set, %s has none", c.CredentialsFile)
	}
	return a, nil
}

// keyProblem returns what is wrong with a service account that has a key.
func (a *account) keyProblem() string {
	if a.Email == "" {
		return "client_email is missing"
	}
	block, _ := pem.Decode([]byte(a.PrivateKey))
	if block == nil {
		return "private_key is missing or damaged"
	}
	if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
		if _, err := x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			return "private_key is damaged"
		}
	}
	if u, err := url.Parse(a.TokenURI); err != nil || u.Scheme != "https" || u.Host == "" {
		return "token_uri is not an https URL"
	}
	return ""
}
