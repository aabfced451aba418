package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problems collects what is wrong with a configuration. As an error it has one
// line per problem, "FILE:LINE: FIELD: PROBLEM", in the order of the file.
type Problems struct {
	source
	list   []problem
	failed []string // fields that could not be decoded
}

type problem struct {
	line  int // 0: not known
	field string
	text  string
}

// source tells where in its file a configuration sets what.
type source struct {
	name    string
	lines   map[string]int // by field path, such as "apns[0].key_file"
	renamed []string       // keys that are called otherwise now, each as a problem is written
}

// lineOf returns the line of the field or, if the file does not have it, of the
// nearest field around it.
func (s source) lineOf(field string) int {
	for field != "" {
		if line, ok := s.lines[field]; ok {
			return line
		}
		field = field[:max(0, strings.LastIndexAny(field, ".["))]
	}
	return s.lines[""]
}

// Add adds an error that concerns the field; a nil error is no problem. If err
// joins several, each is a problem. If the text of one begins with a field below
// this one and a colon, as in "key_file: no such file", the problem is that
// field's.
func (p *Problems) Add(field string, err error) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			p.Add(field, err)
		}
		return
	}
	text := err.Error()
	if sub, rest, ok := strings.Cut(text, ": "); ok && p.lines[join(field, sub)] > 0 {
		field, text = join(field, sub), rest
	}
	p.report(field, text)
}

// Err returns the problems as an error, nil if there are none.
func (p *Problems) Err() error {
	if len(p.list) == 0 {
		return nil
	}
	return p
}

// Error returns one line per problem.
func (p *Problems) Error() string {
	var b strings.Builder
	for i, q := range p.list {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.name)
		if q.line > 0 {
			fmt.Fprintf(&b, ":%d", q.line)
		}
		if q.field != "" {
			b.WriteString(": " + q.field)
		}
		b.WriteString(": " + q.text)
	}
	return b.String()
}

// report adds a problem of a field that was decoded. A field that could not be
// decoded has its problem already: what is wrong with its zero value is noise.
func (p *Problems) report(field, text string) {
	for _, f := range p.failed {
		if within(field, f) || within(f, field) {
			return
		}
	}
	p.add(p.lineOf(field), field, text)
}

func (p *Problems) add(line int, field, text string) {
	text = strings.ReplaceAll(text, "\n", "; ")
	q := problem{line, field, text}
	// Stable: problems of one line stay in the order in which they were found.
	i, _ := slices.BinarySearchFunc(p.list, q, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.line, b.line), -1)
	})
	p.list = slices.Insert(p.list, i, q)
}

// within tells whether field is the outer field or one below it. Everything is
// below "".
func within(field, outer string) bool {
	rest, ok := strings.CutPrefix(field, outer)
	return ok && (outer == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// join returns the path of a field of the outer field.
func join(outer, field string) string {
	if outer == "" || strings.HasPrefix(field, "[") {
		return outer + field
	}
	return outer + "." + field
}
