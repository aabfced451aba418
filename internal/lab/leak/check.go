package leak

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/sipwake/sipwake/internal/secret"
)

const (
	// minSecret is the shortest secret in bytes that can be told from other text.
	minSecret = 8
	// part is how much of a secret's beginning or end is too much.
	part = 12
)

// Result is what Check has looked at and found.
type Result struct {
	Secrets, Files int
	Bytes          int64
	Found          []Finding
}

// Finding is a secret that was said. It names the secret by its hash.
type Finding struct {
	File string
	Line int
	Form string // in which the secret was
	Hash string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: the secret %s, %s", f.File, f.Line, f.Hash, f.Form)
}

// maxFindings of one file are told.
const maxFindings = 10

// Check looks in all that was said for every secret: as it is, for its first and
// last 12 characters, percent-encoded, as JSON text, in base64 and in hexadecimal.
// It is an error if nothing was said or no secret noted: then nothing is proven.
func Check(dir string) (Result, error) {
	var r Result
	secrets, err := readLedger(dir)
	if err != nil {
		return r, err
	}
	ix := newIndex()
	for s := range secrets {
		if len(s) < minSecret {
			return r, fmt.Errorf("a secret of %d bytes is too short to be told from other text: use longer ones in tests", len(s))
		}
		for _, f := range forms(s) {
			ix.add(f.text, f.name, secret.NewToken(s).String())
		}
	}
	r.Secrets = len(secrets)
	files, err := filepath.Glob(filepath.Join(dir, said, "*"))
	if err != nil {
		return r, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return r, fmt.Errorf("cannot read what was said: %w", err)
		}
		r.Files, r.Bytes = r.Files+1, r.Bytes+int64(len(text))
		r.Found = append(r.Found, ix.search(filepath.Base(file), text)...)
	}
	if r.Secrets == 0 || r.Bytes == 0 {
		return r, errors.New("no secret was noted or nothing was said: this proves nothing")
	}
	return r, nil
}

func readLedger(dir string) (map[string]bool, error) {
	files, err := filepath.Glob(filepath.Join(dir, ledger+"-*"))
	if err != nil {
		return nil, err
	}
	secrets := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("cannot read ledger: %w", err)
		}
		for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
			s, err := base64.StdEncoding.DecodeString(lines.Text())
			if err != nil {
				return nil, errors.New("cannot read ledger: a line is not base64")
			}
			secrets[string(s)] = true
		}
	}
	return secrets, nil
}

// form is a text that would give a secret away.
type form struct{ name, text string }

// forms returns those of a secret. What begins like one of them is found with it.
func forms(s string) []form {
	head, tail := s, s
	if len(s) >= part+4 {
		head, tail = s[:part], s[len(s)-part:]
	}
	if plain(head) {
		head = s
	}
	if plain(tail) {
		tail = s
	}
	quoted, err := json.Marshal(s)
	if err != nil {
		panic("BUG: cannot marshal a string: " + err.Error())
	}
	f := []form{
		{"its beginning", head},
		{"its beginning in capitals", strings.ToUpper(head)},
		{"its beginning in small letters", strings.ToLower(head)},
		{"its end", tail},
		{"its end in capitals", strings.ToUpper(tail)},
		{"its end in small letters", strings.ToLower(tail)},
		{"for a query", url.QueryEscape(s)},
		{"for a path", url.PathEscape(s)},
		{"percent-encoded", percent(head, "%%%02X")},
		{"percent-encoded small", percent(head, "%%%02x")},
		{"as JSON", string(quoted[1 : len(quoted)-1])},
		{"in hexadecimal", hex.EncodeToString([]byte(head))},
	}
	for shift := range 3 {
		// What stands before and after it decides on the characters at the edges.
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := enc.EncodeToString(append(make([]byte, shift), s...))
			text = text[(shift*8+5)/6:]
			text = text[:len(text)-1]
			if len(text) > 2*part {
				text = text[:2*part]
			}
			if len(text) >= part {
				f = append(f, form{fmt.Sprintf("in base64, shifted by %d", shift), text})
			}
		}
	}
	return f
}

// plain reports whether a part of a secret is so plain, zeros mostly, that it may
// be in other text too.
func plain(s string) bool {
	seen := map[rune]bool{}
	for _, c := range s {
		seen[c] = true
	}
	return len(seen) < 4
}

func percent(s, format string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, format, s[i])
	}
	return b.String()
}
