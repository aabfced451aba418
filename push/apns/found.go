package apns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// FromDir finds the credentials that need no configuration, by their names:
//
//	pushkit.PACKAGE.p12            a push certificate with its key
//	pushkit.PACKAGE.pem            the same in PEM
//	pushkit.PACKAGE.password       the password of either
//	apns.PACKAGE.TEAM.KEY.p8       a key, with team ID and key ID
//
// PACKAGE is the bundle ID without ".voip". Each credential makes one Config with
// the defaults, on which SetDefaults has been called, and which is valid; the
// environments of a certificate are its own. Other files are passed over. The
// error joins one for each file that cannot be used. Contents are not read
// before Config.Apps.
func FromDir(dir string) ([]Config, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read directory: %w", err)
	}
	var (
		list  []Config
		errs  []error
		first = make(map[string]string) // file by package
	)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		c, problem := fromName(path)
		switch {
		case c == nil && problem == "":
			continue
		case problem == "" && first[c.BundleID] != "":
			problem = fmt.Sprintf("is for the same app as %s; keep one of them", first[c.BundleID])
		}
		if problem != "" {
			errs = append(errs, fmt.Errorf("%s: %s", path, problem))
			continue
		}
		first[c.BundleID] = e.Name()
		c.found = true
		c.SetDefaults()
		c.Validate(func(field, problem string) { errs = append(errs, fmt.Errorf("%s: %s %s", path, field, problem)) })
		list = append(list, *c)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return list, nil
}

// fromName reads a file's name. Without a Config and a problem it is no file of
// ours.
func fromName(path string) (c *Config, problem string) {
	name := filepath.Base(path)
	ext := filepath.Ext(name)
	if rest, ok := strings.CutPrefix(strings.TrimSuffix(name, ext), "pushkit."); ok {
		switch ext {
		case ".p12", ".pem":
			c = &Config{BundleID: rest, CertificateFile: path}
			password := strings.TrimSuffix(path, ext) + ".password"
			if _, err := os.Stat(password); !errors.Is(err, os.ErrNotExist) {
				c.CertificatePasswordFile = password
			}
			return c, ""
		case ".password":
			return nil, ""
		}
		return nil, "its name must end in .p12, .pem or .password"
	}
	rest, ok := strings.CutPrefix(name, "apns.")
	if !ok {
		return nil, ""
	}
	parts := strings.Split(rest, ".")
	if n := len(parts); n >= 4 && ext == ".p8" {
		return &Config{BundleID: strings.Join(parts[:n-3], "."), TeamID: parts[n-3], KeyID: parts[n-2], KeyFile: path}, ""
	}
	return nil, "its name must be apns.PACKAGE.TEAM.KEY.p8"
}
