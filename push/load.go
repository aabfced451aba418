package push

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
)

var utf8BOM = []byte("\xef\xbb\xbf") // Windows editors write it

// TemplateRules are a provider's rules for its payloads. Edit and Check may be nil.
type TemplateRules struct {
	// Defaults are the default templates by kind, for a provider whose defaults are
	// not in DefaultTemplates; otherwise nil.
	Defaults map[Kind]string
	// Limit is the maximum payload size in bytes; 0 means the provider's.
	Limit int
	// Edit changes the text of a template, which is a JSON object, and returns what
	// the template says about its delivery.
	Edit func(kind Kind, service pnparam.Service, text []byte) ([]byte, Own, error)
	// Check returns what is wrong with a payload.
	Check func(payload []byte) error
	// MessageName is the name of MPUSH's single payload file. FromMessage makes the
	// template for a kind from its text; text is the default.
	MessageName string
	FromMessage func(kind Kind, message, text []byte) ([]byte, error)
}

// Load returns the provider's default templates, overridden by the configured files.
// A file for a kind replaces the defaults for all of its services. Every template is
// test-filled with sample values. Each error begins with the yaml name of the field,
// followed by the file and the place in it; several are joined.
func (o *Options) Load(p pnparam.Provider, rules TemplateRules) (*Templates, error) {
	texts := defaultTexts(p)
	for k, text := range rules.Defaults {
		texts[templateKey{k, ""}] = text
	}
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
	t := &Templates{provider: p, options: *o, limit: rules.Limit, byKey: make(map[templateKey]*template)}
	if err := t.addDefaults(texts, o.message(rules.MessageName), rules); err != nil {
		errs = append(errs, err)
	}
	for _, key := range templateOrder(files) {
		f := files[key]
		text, err := os.ReadFile(f.path)
		if err != nil {
			errs = append(errs, f.wrap(fmt.Errorf("cannot read template: %w", err)))
			continue
		}
		if err := t.add(key, text, rules); err != nil {
			errs = append(errs, f.wrap(fmt.Errorf("%s: %w", f.path, err)))
			continue
		}
		t.byKey[key].source = f.path
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return t, nil
}

// message finds the MPUSH file of that name. Its path is empty if there is none.
func (o *Options) message(name string) file {
	if o.Message != "" {
		return file{"", o.Message} // no field names it
	}
	if path := filepath.Join(o.TemplatesDir, name); o.TemplatesDir != "" && name != "" {
		if _, err := os.Stat(path); err == nil {
			return file{"templates_dir", path}
		}
	}
	return file{}
}

// addDefaults adds the templates without a file of their own, made from the MPUSH
// file if there is one.
func (t *Templates) addDefaults(texts map[templateKey]string, message file, rules TemplateRules) error {
	var contents []byte
	if message.path != "" {
		var err error
		if contents, err = os.ReadFile(message.path); err != nil {
			return message.wrap(fmt.Errorf("cannot read template: %w", err))
		}
		contents = braceKeywords(bytes.TrimPrefix(contents, utf8BOM))
	}
	for _, key := range templateOrder(texts) {
		text, err := []byte(texts[key]), error(nil)
		if contents != nil {
			if _, err = parseTemplate(contents); err == nil { // its error includes the line
				text, err = rules.FromMessage(key.kind, contents, text)
			}
		}
		if err == nil {
			err = t.add(key, text, rules)
		}
		switch {
		case err == nil:
			t.byKey[key].source = message.path
		case contents == nil:
			panic(fmt.Sprintf("BUG: default template of %s for %s: %v", t.provider, key.kind, err))
		default:
			return message.wrap(fmt.Errorf("%s: %w", message.path, err))
		}
	}
	return nil
}

// file is a template's file, with the field that names it.
type file struct{ field, path string }

// wrap prefixes an error with the field.
func (f file) wrap(err error) error {
	if f.field == "" {
		return err
	}
	return fmt.Errorf("%s: %w", f.field, err)
}

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
				continue // a README or an editor's leftover
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
		if key, ok := templateName(p, name); ok { // otherwise Validate has reported it
			found[key] = file{"templates." + name, path}
		}
	}
	return found, errs
}

// add makes text the template for the key. It must be called before t is used.
func (t *Templates) add(key templateKey, text []byte, rules TemplateRules) error {
	text = bytes.TrimPrefix(text, utf8BOM)
	parsed, err := parseTemplate(text)
	if err != nil {
		return err
	}
	if rules.Edit != nil {
		var own Own
		if text, own, err = rules.Edit(key.kind, key.service, text); err == nil {
			parsed, err = parseTemplate(text)
		}
		if err != nil {
			return err
		}
		parsed.own = own
	}
	t.byKey[key] = parsed
	payload, err := t.Payload(nil, t.sampleRequest(key, "", SampleValues()), t.most(key.service))
	if err == nil && rules.Check != nil {
		err = rules.Check(payload)
	}
	return err
}

// Rendered is a template filled with values for display.
type Rendered struct {
	Kind Kind
	// Service is empty for the template of all services without their own.
	Service pnparam.Service
	// Source is the template's file; empty for a default.
	Source   string
	Payload  []byte // JSON; empty if the push has no payload
	Delivery Delivery
}

// Render fills every template, in the order of Kinds, for the app of that name. It
// uses the values that a push of the kind has, as restricted by privacy. On error,
// which names the kind, it returns the templates before it.
func (t *Templates) Render(app string, privacy Privacy, v Values) ([]Rendered, error) {
	var list []Rendered
	for _, key := range templateOrder(t.byKey) {
		r := t.sampleRequest(key, app, privacy.Hide(key.kind, v.of(key.kind)))
		payload, err := t.Payload(nil, r, t.most(key.service))
		if err != nil {
			return list, err
		}
		list = append(list, Rendered{key.kind, key.service, t.byKey[key].source, payload, t.Delivery(r)})
	}
	return list, nil
}

// sampleRequest returns a request that uses the key's template.
func (t *Templates) sampleRequest(key templateKey, app string, v Values) *Request {
	r := &Request{
		Kind: key.kind, Provider: t.provider, App: app, Service: key.service, Token: sampleToken(),
		Values: v, Deadline: time.Now().Add(30 * time.Second),
	}
	if t.provider == pnparam.WebPush {
		r.Keys = new(pnparam.WebPushKeys) // otherwise there is no payload
	}
	return r
}

// templateOrder returns the keys of m in the order of Kinds, with the service for all
// before the others.
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
