// Package secret has types for values that must never appear in a log, an error, a
// metric or a trace: credentials (Text) and push tokens (Token). Both print a harmless
// text through fmt, slog, JSON and YAML. Only Reveal returns the value, so that every
// use can be found by name.
//
// Keep them in exported struct fields only: fmt does not call the methods of values in
// unexported fields.
package secret

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"strings"
)

const hidden = "<secret>"

// Text is a credential: a password, a bearer token, a shared secret. The zero
// Text is empty. It prints "<secret>".
type Text struct{ value string }

// NewText returns the credential s.
func NewText(s string) Text { return Text{s} }

// ReadText reads a credential from a file, without trailing line ends. An empty file is
// an error.
func ReadText(path string) (Text, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Text{}, fmt.Errorf("cannot read secret: %w", err)
	}
	s := strings.TrimRight(string(b), "\r\n")
	if s == "" {
		return Text{}, fmt.Errorf("cannot read secret: %s is empty", path)
	}
	return Text{s}, nil
}

// Reveal returns the credential itself.
func (t Text) Reveal() string { return t.value }

// Empty reports whether there is no credential.
func (t Text) Empty() bool { return t.value == "" }

// Equal reports whether the credential is other. It compares in constant time, but does
// not hide the lengths.
func (t Text) Equal(other string) bool {
	return subtle.ConstantTimeCompare([]byte(t.value), []byte(other)) == 1
}

// String returns "<secret>", or "" for the empty Text.
func (t Text) String() string {
	if t.value == "" {
		return ""
	}
	return hidden
}

// Format prints String for every verb. Otherwise fmt would print the fields for a verb
// that does not fit, such as %d.
func (t Text) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(t.String())) }

// UnmarshalText sets the credential to b, from JSON or YAML.
func (t *Text) UnmarshalText(b []byte) error {
	*t = Text{string(b)}
	return nil
}

// MarshalText returns String, for JSON and YAML.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// LogValue returns String, for slog.
func (t Text) LogValue() slog.Value { return slog.StringValue(t.String()) }

// Token is a push token (pn-prid, RFC 8599 section 14). It prints a short hash, so that
// output about the same token can be recognised. Tokens can be compared with ==.
type Token struct{ value string }

// NewToken returns the push token s.
func NewToken(s string) Token { return Token{s} }

// Reveal returns the token itself.
func (t Token) Reveal() string { return t.value }

// Empty reports whether there is no token.
func (t Token) Empty() bool { return t.value == "" }

// key makes what tokens print worthless outside of this process: whoever knows tokens, such
// as an app's maker, cannot find users by a log.
var key = func() (k [16]byte) {
	_, _ = rand.Read(k[:]) // never fails
	return k
}()

// String returns "token:" and eight digits that are the same for a token as long as this
// process runs, or "" for the empty Token.
func (t Token) String() string {
	if t.value == "" {
		return ""
	}
	sum := sha256.Sum256(append(key[:], t.value...))
	return "token:" + hex.EncodeToString(sum[:4])
}

// Format prints String for every verb. Otherwise fmt would print the fields for a verb
// that does not fit, such as %d.
func (t Token) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(t.String())) }

// MarshalText returns String, for JSON and YAML. Stores write the token itself, by
// Reveal.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// LogValue returns String, for slog.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }
