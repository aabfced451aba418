package wake

import (
	"fmt"
	"strings"
)

// ParamError says which parameter of a request is wrong. Its text never quotes
// the value.
type ParamError struct {
	Field   string
	Problem string
}

// Error returns "field: problem".
func (e *ParamError) Error() string { return e.Field + ": " + e.Problem }

const (
	maxAOR = 255 // bytes
	maxID  = 255
)

// CleanAOR returns the AOR as user@domain in lower case. A sip: or sips: scheme
// is dropped. The user part may be missing (RFC 3261 section 10.2).
func CleanAOR(s string) (string, error) {
	fail := func(problem string) (string, error) { return "", &ParamError{"aor", problem} }
	s = strings.ToLower(s)
	s = strings.TrimPrefix(strings.TrimPrefix(s, "sips:"), "sip:")
	switch {
	case s == "":
		return fail("is missing")
	case len(s) > maxAOR:
		return fail(fmt.Sprintf("is longer than %d bytes", maxAOR))
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f || s[i] == '<' || s[i] == '>' || s[i] == '"' {
			return fail("has a character that an address-of-record cannot have")
		}
	}
	if at := strings.LastIndexByte(s, '@'); at == len(s)-1 {
		return fail("has no domain")
	}
	return s, nil
}

// CheckID checks an opaque identifier: present and bounded.
func CheckID(field, s string) error {
	if s == "" {
		return &ParamError{field, "is missing"}
	}
	if len(s) > maxID {
		return &ParamError{field, fmt.Sprintf("is longer than %d bytes", maxID)}
	}
	return nil
}

// CallerOf returns who calls by the From URI, "" for one who is anonymous: without
// a From, by RFC 3323 section 4.1.1.3, or by what gateways write for it.
func CallerOf(from string) string {
	uri, _, _ := strings.Cut(strings.ToLower(from), ";")
	if _, rest, ok := strings.Cut(uri, ":"); ok {
		uri = rest // without its scheme
	}
	user, host, _ := strings.Cut(uri, "@")
	if host == "anonymous.invalid" {
		return ""
	}
	switch user {
	case "anonymous", "unavailable", "unknown", "restricted":
		return ""
	}
	return uri[:min(len(uri), maxAOR)]
}
