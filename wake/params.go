package wake

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of the Service besides ParamError and ErrUnavailable.
var (
	// ErrUnknownNode says that the request names a node that is not configured.
	ErrUnknownNode = errors.New("unknown node")
	// ErrStopped says that the service has been stopped.
	ErrStopped = errors.New("service stopped")
	// ErrBusy says that too much of the kind is under way.
	ErrBusy = errors.New("too busy")
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

// cleanAOR returns the AOR as user@domain in lower case. A sip: or sips: scheme
// is dropped. The user part may be missing (RFC 3261 section 10.2).
func cleanAOR(s string) (string, error) {
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

// checkID checks an opaque identifier: present and bounded.
func checkID(field, s string) error {
	if s == "" {
		return &ParamError{field, "is missing"}
	}
	if len(s) > maxID {
		return &ParamError{field, fmt.Sprintf("is longer than %d bytes", maxID)}
	}
	return nil
}
