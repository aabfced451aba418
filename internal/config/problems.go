package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problems collects the problems of a configuration. As an error it has one line per
// problem, "FILE:LINE: FIELD: PROBLEM", in the order of the file.
type Problems struct {
	source
	list   []problem
	failed []string // fields that could not be decoded
}

type problem struct {
	line  int // 0: unknown
	field string
	text  string
	// checked: the problem is the value, not the syntax.
	checked bool
}

// source knows where in the file each setting is.
type source struct {
	name    string
	lines   map[string]int // by field path, such as "apns[0].key_file"
	renamed []string       // renamed keys, each in the format of a problem
}

// lineOf returns the line of the field or, if the field is not in the file, of the nearest
// enclosing field.
func (s source) lineOf(field string) int {
	for field != "" {
		if line, ok := s.lines[field]; ok {
			return line
		}
		field = field[:max(0, strings.LastIndexAny(field, ".["))]
	}
	return s.lines[""]
}

// Add adds an error of the field, unless it is nil. If err joins several errors, each is a
// problem. If the text of an error begins with a field below this one and a colon, as in
// "key_file: no such file", the problem belongs to that field.
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

// Has reports whether there is a problem, other than an unknown key, of the field, of a
// field below it, or of an enclosing field.
func (p *Problems) Has(field string) bool {
	if p.hasFailed(field) {
		return true
	}
	for _, q := range p.list {
		if q.checked && (within(q.field, field) || within(field, q.field)) {
			return true
		}
	}
	return false
}

// hasFailed reports whether the field, an enclosing field or a part of the field could not
// be decoded.
func (p *Problems) hasFailed(field string) bool {
	for _, f := range p.failed {
		if within(field, f) || field != "" && within(f, field) {
			return true
		}
	}
	return false
}

// Lines returns the problems, one line each, in the order of the file.
func (p *Problems) Lines() []string {
	lines := make([]string, len(p.list))
	for i, q := range p.list {
		lines[i] = p.name
		if q.line > 0 {
			lines[i] += fmt.Sprintf(":%d", q.line)
		}
		if q.field != "" {
			lines[i] += ": " + q.field
		}
		lines[i] += ": " + q.text
	}
	return lines
}

// Err returns the problems as an error, nil if there are none.
func (p *Problems) Err() error {
	if len(p.list) == 0 {
		return nil
	}
	return p
}

// Error returns one line per problem.
func (p *Problems) Error() string { return strings.Join(p.Lines(), "\n") }

// report adds a problem of a field that was decoded. It ignores a field that could not be
// decoded: that field already has a problem, and its zero value means nothing.
func (p *Problems) report(field, text string) {
	for _, f := range p.failed {
		if within(field, f) || within(f, field) {
			return
		}
	}
	p.insert(problem{p.lineOf(field), field, text, true})
}

// add adds a problem of the file itself.
func (p *Problems) add(line int, field, text string) { p.insert(problem{line, field, text, false}) }

func (p *Problems) insert(q problem) {
	q.text = strings.ReplaceAll(q.text, "\n", "; ")
	// Stable: problems of the same line stay in the order in which they were found.
	i, _ := slices.BinarySearchFunc(p.list, q, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.line, b.line), -1)
	})
	p.list = slices.Insert(p.list, i, q)
}

// within reports whether field is the outer field or below it. Every field is below "".
func within(field, outer string) bool {
	rest, ok := strings.CutPrefix(field, outer)
	return ok && (outer == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// join returns the path of a field in the outer field.
func join(outer, field string) string {
	if outer == "" || strings.HasPrefix(field, "[") {
		return outer + field
	}
	return outer + "." + field
}
