// Package secret holds the two kinds of values that must never be seen in a
// log, an error, a metric or a trace: credentials (Text) and push tokens
// (Token). Both print something harmless through fmt, slog, JSON and YAML; the
// value itself is only had by Reveal, so that every use can be found by name.
//
// Keep them in exported struct fields only: fmt does not call the methods of a
// value that sits in an unexported field.
package secret

import (
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

// ReadText reads a credential from a file and drops the trailing line ends. An
// empty file is an error.
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

// Equal compares in constant time; the lengths of the two are not hidden.
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

// Format prints String for every verb: fmt shows the fields of a value to a verb
// that does not suit it, %d for one.
func (t Text) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(t.String())) }

// UnmarshalText takes the credential b as it is, from JSON or YAML.
func (t *Text) UnmarshalText(b []byte) error {
	*t = Text{string(b)}
	return nil
}

// MarshalText is String, for JSON and YAML.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// LogValue is String, for slog.
func (t Text) LogValue() slog.Value { return slog.StringValue(t.String()) }

// Token is a push token (pn-prid, RFC 8599 section 14). It prints a short hash,
// the same for the same token, so that log lines can be told apart and joined.
// Tokens compare with ==.
type Token struct{ value string }

// NewToken returns the push token s.
func NewToken(s string) Token { return Token{s} }

// Reveal returns the token itself.
func (t Token) Reveal() string { return t.value }

// Empty reports whether there is no token.
func (t Token) Empty() bool { return t.value == "" }

// Hash returns the SHA-256 of the token in hexadecimal: a key to look the token
// up by where the token itself must not be.
func (t Token) Hash() string {
	sum := sha256.Sum256([]byte(t.value))
	return hex.EncodeToString(sum[:])
}

// String returns "token:" and eight digits of the hash, or "" for the empty Token.
func (t Token) String() string {
	if t.value == "" {
		return ""
	}
	return "token:" + t.Hash()[:8]
}

// Format prints String for every verb: fmt shows the fields of a value to a verb
// that does not suit it, %d for one.
func (t Token) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(t.String())) }

// MarshalText is String, for JSON and YAML: a store writes Reveal, on purpose.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// LogValue is String, for slog.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }
