package wake

import (
	"fmt"

	"github.com/sipwake/sipwake/internal/sipuri"
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

// CleanAOR returns the AOR user@domain that a text means, as package sipuri does. The
// user part may be missing (RFC 3261 section 10.2).
func CleanAOR(s string) (string, error) {
	aor, err := sipuri.AOR(s)
	if err == nil && len(aor) > maxAOR {
		err = fmt.Errorf("is longer than %d bytes", maxAOR)
	}
	if err != nil {
		return "", &ParamError{"aor", err.Error()}
	}
	return aor, nil
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

// CallerOf returns who calls by the From URI, at most 255 bytes of user@domain, the
// same whatever else stands in it. It is "" for one who is anonymous.
func CallerOf(from string) string {
	caller := sipuri.Caller(from)
	return caller[:min(len(caller), maxAOR)]
}
