package push

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sipwake/sipwake/pnparam"
)

// TemplateRules are what a provider knows of the payloads that it takes. Either
// may be nil.
type TemplateRules struct {
	// Edit changes the text of a template, which is a JSON object.
	Edit func(kind Kind, text []byte) ([]byte, error)
	// Check tells what is wrong with a payload.
	Check func(payload []byte) error
}

// Load returns the provider's default templates with the configured files in
// their place. A file for a kind replaces the defaults for all of its services.
// Every template is filled with sample values to see whether that works. An
// error begins with the yaml name of the field, then has the file, and the place
// in it; several are joined.
func (o *Options) Load(p pnparam.Provider, rules TemplateRules) (*Templates, error) {
	texts := defaultTexts(p)
	files, errs := o.files(p)
	for key := range files {
		if key.service == "" {
			for old := range texts {
				if old.kind == key.kind {
					delete(texts, old)
				}
			}
		}
	}
	t := &Templates{provider: p, options: *o, byKey: make(map[templateKey]*template)}
	for key, text := range texts {
		if err := t.add(key, []byte(text), rules); err != nil {
			panic(fmt.Sprintf("BUG: default template of %s for %s: %v", p, key.kind, err))
		}
	}
	for _, key := range templateOrder(files) {
		f := files[key]
		text, err := os.ReadFile(f.path)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: cannot read template: %w", f.field, err))
			continue
		}
		if err := t.add(key, text, rules); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", f.field, f.path, err))
			continue
		}
		t.byKey[key].source = f.path
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if p == pnparam.WebPush {
		t.fillEmpty()
	}
	return t, nil
}

// file is where a template is, and the field that says so.
type file struct{ field, path string }

// files finds the files of all templates.
func (o *Options) files(p pnparam.Provider) (map[templateKey]file, []error) {
	found := make(map[templateKey]file)
	var errs []error
	if o.TemplatesDir != "" {
		entries, err := os.ReadDir(o.TemplatesDir)
		if err != nil {
			errs = append(errs, fmt.Errorf("templates_dir: cannot read directory: %w", err))
		}
		for _, e := range entries {
			name, ok := strings.CutSuffix(e.Name(), ".json")
			if !ok || strings.HasPrefix(name, ".") {
				continue // a README, what an editor left
			}
			path := filepath.Join(o.TemplatesDir, e.Name())
			key, ok := templateName(p, name)
			if !ok {
				errs = append(errs, fmt.Errorf("templates_dir: %s: its name must be one of %s", path, templateNames(p)))
				continue
			}
			found[key] = file{"templates_dir", path}
		}
	}
	for name, path := range o.Templates {
		if key, ok := templateName(p, name); ok { // else Validate has said so
			found[key] = file{"templates." + name, path}
		}
	}
	return found, errs
}

// add makes text the template for the key. It is called before t is used.
func (t *Templates) add(key templateKey, text []byte, rules TemplateRules) error {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // Windows editors write it
	parsed, err := parseTemplate(text)
	if err != nil {
		return err
	}
	if rules.Edit != nil {
		if text, err = rules.Edit(key.kind, text); err == nil {
			parsed, err = parseTemplate(text)
		}
		if err != nil {
			return err
		}
	}
	t.byKey[key] = parsed
	payload, err := t.Payload(nil, t.sampleRequest(key, "", SampleValues()), payloadLimit(t.provider, key.service))
	if err == nil && rules.Check != nil {
		err = rules.Check(payload)
	}
	return err
}

// Rendered is a template filled with values for people to see.
type Rendered struct {
	Kind Kind
	// Service is empty in the template for all services that have none of their own.
	Service pnparam.Service
	// Source is the template's file; empty for a default.
	Source  string
	Payload []byte // JSON; empty where nothing but the push itself is sent
}

// Render fills every template with what privacy leaves of the values, for the app of
// that name, in the order of Kinds. On an error, which names the kind, it returns those before it.
func (t *Templates) Render(app string, privacy Privacy, v Values) ([]Rendered, error) {
	var list []Rendered
	for _, key := range templateOrder(t.byKey) {
		payload, err := t.Payload(nil, t.sampleRequest(key, app, privacy.Hide(key.kind, v)), payloadLimit(t.provider, key.service))
		if err != nil {
			return list, err
		}
		list = append(list, Rendered{key.kind, key.service, t.byKey[key].source, payload})
	}
	return list, nil
}

// sampleRequest asks for a push such as the key's template is for.
func (t *Templates) sampleRequest(key templateKey, app string, v Values) *Request {
	return &Request{
		Kind: key.kind, Provider: t.provider, App: app, Service: key.service, Token: sampleToken(),
		Values: v, Deadline: time.Now().Add(30 * time.Second),
	}
}

// templateOrder returns the keys of m in the order of Kinds, and the service for
// all before the others.
func templateOrder[V any](m map[templateKey]V) []templateKey {
	var keys []templateKey
	for _, k := range Kinds() {
		for _, s := range []pnparam.Service{"", pnparam.VoIP, pnparam.Remote} {
			if _, ok := m[templateKey{k, s}]; ok {
				keys = append(keys, templateKey{k, s})
			}
		}
	}
	return keys
}
