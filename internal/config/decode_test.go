package config

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// kinds has every kind of field that no part needs today but may tomorrow.
type kinds struct {
	Map     map[string]string         `yaml:"map"`
	Nested  map[string]map[string]int `yaml:"nested"`
	Pointer *struct {
		Name string `yaml:"name"`
	} `yaml:"pointer"`
	Any      any        `yaml:"any"`
	Addr     netip.Addr `yaml:"addr"`
	Small    uint8      `yaml:"small"`
	Ratio    float64    `yaml:"ratio"`
	Text     string     `yaml:"text"`
	Hidden   string     `yaml:"-"`
	Nameless string
}

func TestDecodeKinds(t *testing.T) {
	var got kinds
	p := decode([]byte(`
map: {a: b, "n": 1}
nested: {x: {y: 2}}
pointer: {name: z}
any: {list: [1, two]}
addr: 192.0.2.1
small: 0xff
ratio: 2
text: |
  two
  lines
`), "x.yml", "", &got)
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	if got.Pointer == nil || got.Pointer.Name != "z" {
		t.Errorf("pointer is %v", got.Pointer)
	}
	got.Pointer = nil
	want := kinds{
		Map:    map[string]string{"a": "b", "n": "1"},
		Nested: map[string]map[string]int{"x": {"y": 2}},
		Any:    map[string]any{"list": []any{uint64(1), "two"}},
		Addr:   netip.MustParseAddr("192.0.2.1"),
		Small:  255, Ratio: 2, Text: "two\nlines\n",
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
}

func TestDecodeKindsBad(t *testing.T) {
	p := decode([]byte(`map: {a: b, c: [d]}
nested: {x: {y: z}}
pointer: [1]
any: *none
addr: here
small: 256
ratio: x
Hidden: x
Nameless: x
text: {}
`), "x.yml", "", new(kinds))
	want := `x.yml:1: map.c: must be text
x.yml:2: nested.x.y: must be a whole number
x.yml:3: pointer: must be a section with keys of its own
x.yml:4: any: anchors, aliases and tags are not supported
x.yml:5: addr: ParseAddr("here"): unable to parse IP
x.yml:6: small: is too large a number
x.yml:7: ratio: must be a number
x.yml:8: Hidden: unknown key
x.yml:9: Nameless: unknown key
x.yml:10: text: must be text`
	if p.Err() == nil {
		t.Fatal("no error")
	}
	if d := cmp.Diff(want, p.Err().Error()); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
}

// A key that was called otherwise before is read, and told.
func TestDecodeRenamed(t *testing.T) {
	type section struct {
		Linger int `yaml:"linger" was:"settle"`
	}
	f := func(yaml string, want int, renamed, problem string) {
		t.Helper()
		var got struct {
			Wake section `yaml:"wake"`
		}
		p := decode([]byte(yaml), "x.yml", "", &got)
		text := ""
		if err := p.Err(); err != nil {
			text = err.Error()
		}
		if got.Wake.Linger != want || strings.Join(p.renamed, ";") != renamed || text != problem {
			t.Errorf("%q: %d, %q, %q", yaml, got.Wake.Linger, p.renamed, text)
		}
	}
	f("wake:\n  linger: 3\n", 3, "", "")
	f("wake:\n  settle: 3\n", 3, "x.yml:2: wake.settle: is called wake.linger now", "")
	f("wake:\n  settle: 3\n  linger: 4\n", 3, "x.yml:2: wake.settle: is called wake.linger now",
		"x.yml:3: wake.linger: is set by two names, settle and linger")
}
