package apns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// FromDir finds the credentials that need no configuration, by their names:
//
//	pushkit.PACKAGE.p12            a push certificate with its key
//	pushkit.PACKAGE.pem            the same in PEM
//	pushkit.PACKAGE.password       the password of either; .pwd is the same
//	pushkit.p12, pushkit.pem       a certificate that says itself for which app it is
//	apns.PACKAGE.TEAM.KEY.p8       a key for both environments, with team ID and key ID
//	apns.PACKAGE.TEAM.KEY.production.p8, apns.PACKAGE.TEAM.KEY.sandbox.p8
//	                               a key for one of them
//	pushkitmessage.txt             the payload of all of them, as MPUSH has it
//
// PACKAGE is the bundle ID without ".voip". Each credential gives one valid Config
// with the defaults, on which SetDefaults has been called. A certificate says itself
// for which environments it is valid. Other files are ignored. The error joins one
// error per unusable file. Before Config.Apps, no contents are read except those of a
// certificate without a package in its name.
func FromDir(dir string) ([]Config, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read directory: %w", err)
	}
	message := filepath.Join(dir, messageName)
	if _, err := os.Stat(message); err != nil {
		message = ""
	}
	var (
		list  []Config
		errs  []error
		first = make(map[claim]string) // file
	)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		c, err := fromName(path)
		if err == nil && c == nil {
			continue
		}
		if err == nil {
			err = take(first, c, e.Name())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
			continue
		}
		c.Message = message
		c.SetDefaults()
		c.Validate(func(field, problem string) { errs = append(errs, fmt.Errorf("%s: %s %s", path, field, problem)) })
		list = append(list, *c)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return list, nil
}

// claim is what only one file may serve.
type claim struct {
	bundle string
	env    pnparam.Environment
}

// take records that the file called name serves the app. It is an error if another
// file does so in the same environment.
func take(first map[claim]string, c *Config, name string) error {
	environments := c.Environments
	if environments == nil { // a certificate may be for both, which shows only when it is read
		environments = []pnparam.Environment{pnparam.Production, pnparam.Sandbox}
	}
	for _, env := range environments {
		other := first[claim{c.BundleID, env}]
		switch {
		case other == "":
		case c.KeyFile != "" && strings.HasPrefix(other, "apns."):
			return fmt.Errorf("is for the same app as %s; keep one of them, or name the environment of each: .production.p8, .sandbox.p8", other)
		default:
			return fmt.Errorf("is for the same app as %s; keep one of them", other)
		}
	}
	for _, env := range environments {
		first[claim{c.BundleID, env}] = name
	}
	return nil
}

// fromName derives a Config from the file's name. It returns neither a Config nor an
// error if the file is not ours.
func fromName(path string) (*Config, error) {
	name := filepath.Base(path)
	ext := filepath.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	if rest, ok := strings.CutPrefix(stem+".", "pushkit."); ok {
		switch ext {
		case ".p12", ".pem":
			return fromCertificate(path, strings.TrimSuffix(rest, "."))
		case ".password", ".pwd":
			return nil, nil
		}
		return nil, errors.New("its name must end in .p12, .pem, .password or .pwd")
	}
	rest, ok := strings.CutPrefix(name, "apns.")
	if !ok {
		return nil, nil
	}
	var environments []pnparam.Environment // nil: both
	parts := strings.Split(strings.TrimSuffix(rest, ext), ".")
	if env := pnparam.Environment(parts[len(parts)-1]); env == pnparam.Production || env == pnparam.Sandbox {
		environments, parts = []pnparam.Environment{env}, parts[:len(parts)-1]
	}
	n := len(parts)
	if n < 3 || ext != ".p8" {
		return nil, errors.New("its name must be apns.PACKAGE.TEAM.KEY.p8, or with .production or .sandbox before .p8")
	}
	return &Config{BundleID: strings.Join(parts[:n-2], "."), TeamID: parts[n-2], KeyID: parts[n-1], KeyFile: path,
		Environments: environments, found: true}, nil
}

// fromCertificate makes a Config from a certificate and the password file beside it.
// If the name has no bundle ID, the certificate's own topic is used.
func fromCertificate(path, bundle string) (*Config, error) {
	c := &Config{BundleID: bundle, CertificateFile: path, found: true}
	for _, ext := range []string{".password", ".pwd"} {
		file := strings.TrimSuffix(path, filepath.Ext(path)) + ext
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			continue
		}
		if c.CertificatePasswordFile != "" {
			return nil, fmt.Errorf("has two files with its password, %s and %s; keep one of them",
				filepath.Base(c.CertificatePasswordFile), filepath.Base(file))
		}
		c.CertificatePasswordFile = file
	}
	if bundle != "" {
		return c, nil
	}
	_, cert, err := c.certificate()
	if err != nil {
		return nil, err
	}
	topics := certificateTopics(cert.Leaf)
	if len(topics) == 0 {
		return nil, errors.New("does not say for which app it is: name it pushkit.PACKAGE" + filepath.Ext(path))
	}
	c.BundleID = strings.TrimSuffix(topics[0], ".voip")
	return c, nil
}
