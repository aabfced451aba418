package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// dataKey is the object key that stands for all of Values.Data: with a null value, it
// is replaced by those pairs. A pair whose key the object already has is omitted.
const dataKey = "{DATA}"

// headersKey is the same for all of Values.Headers.
const headersKey = "{HEADERS}"

// template is a parsed payload template. It was parsed as JSON before any value is
// filled in, and only its string values are filled. So whatever a caller's name
// contains, the result is JSON with the keys and structure of the template. It is
// immutable.
type template struct {
	segments []segment
	size     int    // of the fixed text
	source   string // its file; empty for a default
	own      Own    // what it says about its delivery
}

// segment is a piece of fixed JSON with what follows it.
type segment struct {
	fixed   string
	keyword keyword
	data    *dataSlot
}

// dataSlot is the place for the Data pairs, always at the end of an object.
type dataSlot struct {
	taken   []string // keys that the object already has
	headers bool     // the pairs are those of Headers
}

// parseTemplate compiles a JSON object. Keywords appear in its string values as
// "{FROM}"; any other brace is plain text. Errors name the place.
func parseTemplate(text []byte) (*template, error) {
	text = bytes.TrimRight(text, " \t\r\n") // so that an unexpected end is reported on the last line
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		offset := int64(len(text))
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			offset = syntax.Offset
		}
		return nil, fmt.Errorf("line %d: it is not JSON: %w", lineAt(text, offset), err)
	}
	p := parser{dec: json.NewDecoder(bytes.NewReader(text))}
	p.dec.UseNumber()
	if p.token() != json.Delim('{') {
		return nil, errors.New("it must be a JSON object")
	}
	if err := p.object(""); err != nil {
		return nil, fmt.Errorf("line %d: %w", lineAt(text, p.dec.InputOffset()), err)
	}
	p.end(segment{})
	return &p.t, nil
}

// lineAt returns the number of the line that contains the byte before offset.
func lineAt(text []byte, offset int64) int {
	return 1 + bytes.Count(text[:min(max(0, offset-1), int64(len(text)))], []byte("\n"))
}

// parser turns the tokens of valid JSON into segments.
type parser struct {
	dec   *json.Decoder
	fixed []byte // since the last segment
	t     template
}

func (p *parser) token() json.Token {
	token, err := p.dec.Token()
	if err != nil {
		panic(fmt.Sprintf("BUG: valid JSON without tokens: %v", err))
	}
	return token
}

// end finishes the fixed text with the segment s.
func (p *parser) end(s segment) {
	s.fixed = string(p.fixed)
	p.t.size += len(s.fixed)
	p.t.segments = append(p.t.segments, s)
	p.fixed = p.fixed[:0]
}

// object compiles what follows a "{".
func (p *parser) object(path string) error {
	p.fixed = append(p.fixed, '{')
	var keys []string
	splice := ""
	for p.dec.More() {
		key := p.token().(string)
		at := key
		if path != "" {
			at = path + "." + key
		}
		if key == dataKey || key == headersKey {
			if p.token() != nil || splice != "" {
				return fmt.Errorf("%s: must appear once in an object and have the value null", at)
			}
			splice = key
			continue
		}
		if slices.Contains(keys, key) {
			return fmt.Errorf("%s: the key appears twice", at)
		}
		if _, _, name := cutKeyword(key); name != "" {
			return fmt.Errorf("%s: a key cannot hold the keyword %s", at, name)
		}
		if len(keys) > 0 {
			p.fixed = append(p.fixed, ',')
		}
		keys = append(keys, key)
		p.fixed = append(appendString(p.fixed, key), ':')
		if err := p.value(at); err != nil {
			return err
		}
	}
	p.token() // }
	if splice != "" {
		p.end(segment{data: &dataSlot{taken: keys, headers: splice == headersKey}})
	}
	p.fixed = append(p.fixed, '}')
	return nil
}

// array compiles what follows a "[".
func (p *parser) array(path string) error {
	p.fixed = append(p.fixed, '[')
	for i := 0; p.dec.More(); i++ {
		if i > 0 {
			p.fixed = append(p.fixed, ',')
		}
		if err := p.value(path + "[" + strconv.Itoa(i) + "]"); err != nil {
			return err
		}
	}
	p.token() // ]
	p.fixed = append(p.fixed, ']')
	return nil
}

func (p *parser) value(path string) error {
	switch v := p.token().(type) {
	case json.Delim:
		if v == '{' {
			return p.object(path)
		}
		return p.array(path)
	case string:
		return p.text(v, path)
	case json.Number:
		p.fixed = append(p.fixed, v...)
	case bool:
		p.fixed = strconv.AppendBool(p.fixed, v)
	default:
		p.fixed = append(p.fixed, "null"...)
	}
	return nil
}

// text compiles a string value with its keywords.
func (p *parser) text(s, path string) error {
	p.fixed = append(p.fixed, '"')
	for {
		before, after, name := cutKeyword(s)
		p.fixed = appendEscaped(p.fixed, before)
		if name == "" {
			p.fixed = append(p.fixed, '"')
			return nil
		}
		k, ok := findKeyword(name)
		if !ok {
			return fmt.Errorf("%s: unknown keyword %s", path, name)
		}
		p.end(segment{keyword: k})
		s = after
	}
}

// cutKeyword splits s around its first {WORD} of capital letters, or {HEADER:Name}.
// If there is none, name is empty and before is all of s.
func cutKeyword(s string) (before, after, name string) {
	for from := 0; ; {
		i := strings.IndexByte(s[from:], '{')
		if i < 0 {
			return s, "", ""
		}
		i += from
		end := i + 1
		for end < len(s) && s[end] >= 'A' && s[end] <= 'Z' {
			end++
		}
		if strings.HasPrefix(s[i+1:], headerWord) {
			for end = i + 1 + len(headerWord); end < len(s) && HeaderName(s[end:end+1]); end++ {
			}
		}
		if end > i+1 && end < len(s) && s[end] == '}' {
			return s[:i], s[end+1:], s[i : end+1]
		}
		from = i + 1
	}
}

// errTooLong means that a payload does not fit, even when cut as far as possible.
var errTooLong = errors.New("the payload is too long for the service, even without its texts")

// fill appends the payload to dst. If it is longer than limit bytes, its long texts
// are all cut to the same length, between two characters, so that it fits. On error
// it returns dst unchanged.
func (t *template) fill(dst []byte, r *filling, limit int) ([]byte, error) {
	if len(t.segments) == 0 {
		return dst, nil
	}
	start := len(dst)
	dst = t.append(slices.Grow(dst, t.size+256), r, limit) // a longer text cannot fit
	if len(dst)-start <= limit {
		return dst, nil
	}
	cut := sort.Search(limit, func(n int) bool {
		dst = t.append(dst[:start], r, n)
		return len(dst)-start > limit
	}) - 1
	if cut < 0 {
		return dst[:start], errTooLong
	}
	return t.append(dst[:start], r, cut), nil
}

// append appends the payload with every long text cut to at most most bytes.
func (t *template) append(dst []byte, r *filling, most int) []byte {
	for i := range t.segments {
		s := &t.segments[i]
		dst = append(dst, s.fixed...)
		switch {
		case s.data != nil:
			pairs := r.Values.Data
			if s.data.headers {
				pairs = r.Values.Headers
			}
			dst = s.data.append(dst, pairs)
		case s.keyword.text != nil:
			text := s.keyword.text(r)
			if s.keyword.long {
				text = cutText(text, most)
			}
			dst = appendEscaped(dst, text)
		}
	}
	return dst
}

// append appends the pairs, sorted by key.
func (d *dataSlot) append(dst []byte, data map[string]string) []byte {
	if len(data) == 0 {
		return dst
	}
	keys := make([]string, 0, len(data))
	for k := range data {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	written := d.taken
	for _, k := range keys {
		name := strings.ToValidUTF8(k, "\uFFFD") // this can make two keys equal
		if slices.Contains(written, name) {
			continue
		}
		if len(written) > 0 {
			dst = append(dst, ',')
		}
		written = append(written[:len(written):len(written)], name)
		dst = append(appendString(dst, name), ':')
		dst = appendString(dst, data[k])
	}
	return dst
}
