package config

import (
	"encoding"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// decoder fills a Go value from a YAML tree. go-yaml's own decoder stops at the
// first problem, names no path, quotes values, and turns 1.5 into the integer 1
// and the text 12345E6 into "+Inf".
type decoder struct {
	*Problems
	credentials string // the directory of systemd's credentials, "" if there is none
}

// root decodes the document into the struct that into points to.
func (d decoder) root(n ast.Node, into any) {
	d.lines[""] = lineOf(n)
	d.value(n, reflect.ValueOf(into).Elem(), "")
}

// wrong adds a problem of a node that cannot be decoded.
func (d decoder) wrong(n ast.Node, field, text string) {
	d.add(lineOf(n), field, text)
	d.failed = append(d.failed, field)
}

// value decodes one node. A key without a value counts as absent.
func (d decoder) value(n ast.Node, v reflect.Value, field string) {
	switch n.(type) {
	case *ast.NullNode:
		return
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		d.wrong(n, field, "anchors, aliases and tags are not supported")
		return
	}
	if d.special(n, v, field) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, v.Elem(), field)
	case reflect.Struct:
		d.mapping(n, field, "must be a section with keys of its own", d.structField(v, field))
	case reflect.Map:
		d.mapping(n, field, "must be a section of keys and values", d.mapEntry(v))
	case reflect.Slice:
		d.list(n, v, field)
	case reflect.Interface:
		d.foreign(n, v, field)
	default:
		problem := scalar(n, v)
		if problem == "" && v.Kind() == reflect.String {
			problem = d.credential(v)
		}
		if problem != "" {
			d.wrong(n, field, problem)
		}
	}
}

// credentialsDirectory begins a file name in the configuration if systemd provides the
// file (LoadCredential= of the unit).
const credentialsDirectory = "${CREDENTIALS_DIRECTORY}"

// credential replaces a leading credentialsDirectory with the directory itself. Nothing
// else is ever expanded.
func (d decoder) credential(v reflect.Value) (problem string) {
	rest, ok := strings.CutPrefix(v.String(), credentialsDirectory)
	switch {
	case !ok || rest != "" && rest[0] != '/':
		return ""
	case d.credentials == "":
		return "names a credential of systemd, and there are none: is sipwake.service running? Else set CREDENTIALS_DIRECTORY"
	}
	v.SetString(d.credentials + rest)
	return ""
}

// special decodes into the types that have their own syntax.
func (d decoder) special(n ast.Node, v reflect.Value, field string) bool {
	if !v.CanAddr() {
		return false
	}
	switch into := v.Addr().Interface().(type) {
	case *time.Duration:
		s, ok := text(n)
		parsed, err := time.ParseDuration(s)
		if !ok || err != nil {
			d.wrong(n, field, `must be a duration such as "30s" or "5m"`)
		}
		*into = parsed
	case *slog.Level:
		s, ok := text(n)
		if !ok || into.UnmarshalText([]byte(s)) != nil {
			d.wrong(n, field, "must be debug, info, warn or error")
		}
	case yaml.BytesUnmarshaler, yaml.InterfaceUnmarshaler, yaml.NodeUnmarshaler,
		yaml.BytesUnmarshalerContext, yaml.InterfaceUnmarshalerContext, yaml.NodeUnmarshalerContext:
		d.foreign(n, v, field)
	case encoding.TextUnmarshaler:
		s, ok := text(n)
		if !ok {
			d.wrong(n, field, "must be text")
		} else if err := into.UnmarshalText([]byte(s)); err != nil {
			d.wrong(n, field, err.Error())
		}
	default:
		return false
	}
	return true
}

// foreign lets go-yaml decode the node.
func (d decoder) foreign(n ast.Node, v reflect.Value, field string) {
	err := yaml.NodeToValue(n, v.Addr().Interface(), yaml.Strict())
	if err == nil {
		return
	}
	if e := yaml.Error(nil); errors.As(err, &e) { // its Error() quotes the file
		d.wrong(n, field, "cannot be read: "+withoutQuotes(e.GetMessage()))
		return
	}
	d.wrong(n, field, err.Error())
}

// plainKey matches keys that a message may quote. Anything else may be a value in the
// wrong place.
var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// mapping iterates over the keys of a section. The entry function decodes one value and
// returns false if the key is unknown.
func (d decoder) mapping(n ast.Node, field, wanted string, entry func(key string, value ast.Node, field string) bool) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.wrong(n, field, wanted)
		return
	}
	seen := map[string]int{}
	for iter := m.MapRange(); iter.Next(); {
		if iter.Key().IsMergeKey() {
			d.add(lineOf(iter.Key()), field, "anchors, aliases and tags are not supported")
			continue
		}
		key, ok := text(iter.Key())
		if !ok || !plainKey.MatchString(key) {
			d.add(lineOf(iter.Key()), field, "has a key that is not a plain word")
			continue
		}
		path, line := join(field, key), lineOf(iter.Key())
		if first := seen[key]; first > 0 {
			d.add(line, path, fmt.Sprintf("is set twice, first in line %d", first))
			continue
		}
		seen[key], d.lines[path] = line, line
		if !entry(key, iter.Value(), path) {
			d.add(line, path, "unknown key")
		}
	}
}

func (d decoder) structField(v reflect.Value, outer string) func(string, ast.Node, string) bool {
	fields, renamed := map[string]reflect.Value{}, map[string]string{}
	collect(v, fields, renamed)
	for key := range fields { // a key that is not in the file gets the line of its section
		d.lines[join(outer, key)] = d.lines[outer]
	}
	set := map[string]string{} // new name to the name used in the file
	return func(key string, value ast.Node, field string) bool {
		name := key
		if now := renamed[key]; now != "" {
			name = now
			d.renamed = append(d.renamed, fmt.Sprintf("%s:%d: %s: is called %s now", d.name, d.lines[field], field, join(outer, now)))
		}
		f, ok := fields[name]
		if !ok {
			return false
		}
		if other := set[name]; other != "" {
			d.wrong(value, field, "is set by two names, "+other+" and "+key)
			return true
		}
		set[name] = key
		d.value(value, f, field)
		d.lines[join(outer, name)] = d.lines[field]
		return true
	}
}

// collect finds the fields of a struct, including those of inlined structs, by key. It
// also finds the new names of renamed keys, whose old names are in the tag "was".
func collect(v reflect.Value, fields map[string]reflect.Value, renamed map[string]string) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			collect(v.Field(i), fields, renamed)
		case f.IsExported() && name != "" && name != "-":
			fields[name] = v.Field(i)
			if was := f.Tag.Get("was"); was != "" {
				renamed[was] = name
			}
		}
	}
}

func (d decoder) mapEntry(v reflect.Value) func(string, ast.Node, string) bool {
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	return func(key string, value ast.Node, field string) bool {
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(value, e, field)
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), e)
		return true
	}
}

func (d decoder) list(n ast.Node, v reflect.Value, field string) {
	list, ok := n.(*ast.SequenceNode)
	if _, section := n.(ast.MapNode); section && v.Type() == reflect.TypeFor[WebPushApps]() {
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		path := field + "[0]"
		d.lines[path] = lineOf(n)
		d.value(n, v.Index(0), path)
		return
	}
	if !ok {
		d.wrong(n, field, "must be a list")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(list.Values), len(list.Values)))
	for i, e := range list.Values {
		path := fmt.Sprintf("%s[%d]", field, i)
		d.lines[path] = lineOf(e)
		if _, null := e.(*ast.NullNode); null {
			d.wrong(e, path, "is empty")
			continue
		}
		d.value(e, v.Index(i), path)
	}
}

// scalar decodes a single value.
func scalar(n ast.Node, v reflect.Value) (problem string) {
	switch v.Kind() {
	case reflect.String:
		s, ok := text(n)
		if !ok {
			return "must be text"
		}
		v.SetString(s)
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			return "must be true or false"
		}
		v.SetBool(b.Value)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, problem := integer(n)
		if problem == "" && v.OverflowInt(i) {
			problem = tooLarge
		}
		if problem != "" {
			return problem
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		i, problem := integer(n)
		switch {
		case problem != "":
			return problem
		case i < 0:
			return "must not be negative"
		case v.OverflowUint(uint64(i)):
			return tooLarge
		}
		v.SetUint(uint64(i))
	case reflect.Float32, reflect.Float64:
		switch f := n.(type) {
		case *ast.FloatNode:
			v.SetFloat(f.Value)
		case *ast.IntegerNode:
			i, problem := integer(n)
			if problem != "" {
				return problem
			}
			v.SetFloat(float64(i))
		default:
			return "must be a number"
		}
	default:
		panic("BUG: no configuration has a " + v.Type().String())
	}
	return ""
}

const tooLarge = "is too large a number"

// integer returns the value of an integer node.
func integer(n ast.Node) (i int64, problem string) {
	node, ok := n.(*ast.IntegerNode)
	if !ok {
		return 0, "must be a whole number"
	}
	switch x := node.Value.(type) {
	case int64:
		return x, ""
	case uint64:
		if x <= math.MaxInt64 {
			return int64(x), ""
		}
	}
	return 0, tooLarge
}

// text returns a scalar as it is written in the file: a key ID such as 12345E6789 is text
// although YAML reads it as a number.
func text(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// lineOf returns the line on which the node begins.
func lineOf(n ast.Node) int {
	switch m := n.(type) {
	case *ast.MappingNode:
		if len(m.Values) > 0 && !m.IsFlowStyle {
			return lineOf(m.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return lineOf(m.Key)
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 1
}
