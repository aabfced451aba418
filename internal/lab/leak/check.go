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
	// minSecret is the length in bytes from which a secret can be told from other text.
	minSecret = 8
	// part is how many bytes of a secret's beginning or end count as a leak.
	part = 12
)

// Result is what Check has searched and found.
type Result struct {
	Secrets, Files int
	Bytes          int64
	Found          []Finding
}

// Finding is a leaked secret. It names the secret by its hash.
type Finding struct {
	File string
	Line int
	Form string // the form of the secret
	Hash string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: the secret %s, %s", f.File, f.Line, f.Hash, f.Form)
}

// maxFindings is how many findings of one file are reported.
const maxFindings = 10

// Check searches all recorded output for every secret: unchanged, its first and last 12
// characters, percent-encoded, as JSON text, in base64 and in hexadecimal. It is an error
// if there is no output or no secret, because this would prove nothing.
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

// form is a text that reveals a secret.
type form struct{ name, text string }

// forms returns the forms of a secret. A text that begins like one of them is found too.
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
		// The characters at the edges depend on the text before and after the secret.
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

// plain reports whether a part of a secret is so simple, mostly zeros, that it may occur in
// other text.
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
