package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Load reads the configuration from the YAML file at path, fills in defaults and
// validates it. Unknown and duplicate keys are errors. If the file can be read at all, the
// error is a *Problems with every problem found. No problem quotes a value of the file. If
// the file is YAML, Load returns the configuration along with the error, but only to search
// it for more problems.
func Load(path string) (*Config, error) { return LoadWithCredentials(path, "") }

// LoadWithCredentials is Load for a service with systemd credentials. A value that begins
// with ${CREDENTIALS_DIRECTORY} refers to the directory dir. If dir is empty, such a value
// is a problem.
func LoadWithCredentials(path, dir string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read configuration: %w", err)
	}
	c := new(Config)
	p := decode(data, path, dir, c)
	c.SetDefaults()
	c.Validate(p.report)
	c.loaded = *p
	if p.hasFailed("") {
		return nil, p.Err()
	}
	return c, p.Err()
}

// decode decodes the YAML document in data to into, a pointer to a struct with yaml tags.
// It reports what it cannot decode, and leaves it zero. name is the name of the file,
// credentials the directory of systemd's credentials, if there is one.
func decode(data []byte, name, credentials string, into any) *Problems {
	p := &Problems{source: source{name: name, lines: map[string]int{}}}
	root := p.parse(data)
	if root == nil {
		p.failed = append(p.failed, "") // everything
		return p
	}
	decoder{p, credentials}.root(root, into)
	return p
}

// parse returns the one document of the file, or reports why there is none.
func (p *Problems) parse(data []byte) ast.Node {
	// Otherwise a parser error would hide the most common cause, which is invisible.
	if line := tabIndent(data); line > 0 {
		p.add(line, "", "is indented with a tab; YAML wants spaces")
		return nil
	}
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		line, text := 1, "is not valid YAML"
		if e := yaml.Error(nil); errors.As(err, &e) {
			if t := e.GetToken(); t != nil && t.Position != nil {
				line = t.Position.Line
			}
			// err.Error() would show the source, secrets included.
			text += ": " + withoutQuotes(e.GetMessage())
		}
		p.add(line, "", text)
		return nil
	}
	var root ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case root == nil:
			root = doc.Body
		default:
			p.add(lineOf(doc.Body), "", "is a second document; there must be one")
			return nil
		}
	}
	if root == nil || root.Type() == ast.NullType || root.Type() == ast.CommentType {
		p.add(1, "", "is empty")
		return nil
	}
	return root
}

// tabIndent returns the number of the first line with a tab in its indentation, 0 if there
// is none. (In a block scalar such a tab would be legal, but no setting needs one.)
func tabIndent(data []byte) int {
	n := 0
	for line := range bytes.Lines(data) {
		n++
		text := bytes.TrimLeft(line, " \t")
		indent := line[:len(line)-len(text)]
		if bytes.IndexByte(indent, '\t') >= 0 && len(bytes.TrimSpace(text)) > 0 && text[0] != '#' {
			return n
		}
	}
	return 0
}

// withoutQuotes truncates a parser message before the text that it quotes, unless that is
// a single character.
func withoutQuotes(msg string) string {
	i := strings.IndexByte(msg, '"')
	if i < 0 || strings.IndexByte(msg[i+1:], '"') == 1 {
		return msg
	}
	return strings.TrimSpace(msg[:i])
}
