package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/sipwake/sipwake/internal/secret"
)

// namesSecret reports whether a key, without its path, names a file with a secret.
func namesSecret(key string) bool {
	switch key {
	case "ca_file", "client_ca_file", "cert_file", "client_cert_file": // anybody may read these
		return false
	}
	return strings.HasSuffix(key, "_file") || strings.HasSuffix(key, "_files")
}

// OpenSecrets returns an error that lists the files with secrets that every user of this
// machine can read or change, nil if there are none. It checks the files that the
// configuration names, and the configuration itself if it contains a secret. It ignores
// files that cannot be examined: others report them.
func (c *Config) OpenSecrets() error {
	p := c.places()
	look := func(field, path string) {
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm()&0o007 == 0 || !st.Mode().IsRegular() {
			return
		}
		can := "read"
		if st.Mode().Perm()&0o002 != 0 {
			can = "change"
		}
		p.Add(field, fmt.Errorf("every user of this machine can %s %s: chmod o= %s", can, path, path))
	}
	inline := ""
	walkStrings(reflect.ValueOf(c).Elem(), "", func(field string, v reflect.Value) {
		key := field[strings.LastIndexByte(field, '.')+1:]
		key, _, _ = strings.Cut(key, "[")
		switch {
		case v.Type() == reflect.TypeFor[secret.Text]():
			if s, ok := v.Interface().(secret.Text); ok && !s.Empty() && inline == "" {
				inline = field
			}
		case v.String() != "" && namesSecret(key):
			look(field, v.String())
		}
	})
	if inline != "" {
		look(inline, c.loaded.name)
	}
	if c.CredentialsDir != "" {
		_ = filepath.WalkDir(c.CredentialsDir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				look("credentials_dir", path)
			}
			return nil
		})
	}
	return p.Err()
}

// File is a file that the configuration names.
type File struct {
	Field string // that names it or its directory
	Path  string
}

// Files returns the files that the service reads, including those in its directories. It
// ignores directories that cannot be read: others report them.
func (c *Config) Files() []File {
	files := []File{{"", c.loaded.name}}
	walkStrings(reflect.ValueOf(c).Elem(), "", func(field string, v reflect.Value) {
		if v.Kind() != reflect.String || v.String() == "" {
			return
		}
		key := field[strings.LastIndexByte(field, '.')+1:]
		key, _, _ = strings.Cut(key, "[")
		switch {
		case strings.HasSuffix(key, "_file"), strings.HasSuffix(key, "_files"), strings.Contains(field, ".templates."):
			files = append(files, File{field, v.String()})
		case key == "templates_dir", key == "credentials_dir":
			files = append(files, File{field, v.String()})
			_ = filepath.WalkDir(v.String(), func(path string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					files = append(files, File{field, path})
				}
				return nil
			})
		}
	})
	return files
}

// Place prefixes a text about a field with the field's place in the file, as in Problems.
func (c *Config) Place(field, text string) string {
	p := c.places()
	p.report(field, text)
	return p.Error()
}

// walkStrings calls f for every string and every secret below v, with its path.
func walkStrings(v reflect.Value, path string, f func(field string, v reflect.Value)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			walkStrings(v.Elem(), path, f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walkStrings(v.Index(i), fmt.Sprintf("%s[%d]", path, i), f)
		}
	case reflect.String:
		f(path, v)
	case reflect.Map:
		for _, k := range v.MapKeys() {
			walkStrings(v.MapIndex(k), fmt.Sprintf("%s.%s", path, k), f)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[secret.Text]() {
			f(path, v)
			return
		}
		for i := range v.NumField() {
			name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			switch {
			case options == "inline":
				walkStrings(v.Field(i), path, f)
			case name != "" && name != "-":
				walkStrings(v.Field(i), join(path, name), f)
			}
		}
	}
}
