package fcm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// FromDir finds the service accounts that need no configuration, by their names:
//
//	fcmkey.PACKAGE.json
//	fcmkey.json              for every package that no other app has
//	fcmmessage.txt           the payload of all of them, as MPUSH has it
//
// Each file gives one valid Config with the defaults, on which SetDefaults has been
// called. Its app serves PACKAGE and the project's own name. Other files are ignored.
// The error joins one error per unusable file. Contents are not read before
// Config.Apps.
func FromDir(dir string) ([]Config, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read directory: %w", err)
	}
	message := filepath.Join(dir, messageName)
	if _, err := os.Stat(message); err != nil {
		message = ""
	}
	var list []Config
	var errs []error
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), "fcmkey.")
		if !ok {
			continue
		}
		path := filepath.Join(dir, e.Name())
		c := Config{CredentialsFile: path}
		c.Message = message
		if pkg, ok := strings.CutSuffix(rest, ".json"); ok {
			c.Packages = []string{pkg}
		} else if c.AnyPackage = rest == "json"; !c.AnyPackage {
			errs = append(errs, fmt.Errorf("%s: its name must be fcmkey.PACKAGE.json or fcmkey.json", path))
			continue
		}
		c.SetDefaults()
		c.Validate(func(field, problem string) { errs = append(errs, fmt.Errorf("%s: %s %s", path, field, problem)) })
		list = append(list, c)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return list, nil
}
