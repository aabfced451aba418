package wake

import (
	"fmt"

	"github.com/sipwake/sipwake/internal/sipuri"
)

// ParamError reports an invalid request parameter. Its text never quotes the value.
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

// CleanAOR returns s as an AOR, user@domain, normalised by package sipuri. The user
// part may be missing (RFC 3261 section 10.2).
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

// CheckID checks that an opaque identifier is present and not too long.
func CheckID(field, s string) error {
	if s == "" {
		return &ParamError{field, "is missing"}
	}
	if len(s) > maxID {
		return &ParamError{field, fmt.Sprintf("is longer than %d bytes", maxID)}
	}
	return nil
}

// CallerOf returns the caller named by the From URI: at most 255 bytes of
// user@domain, independent of the rest of the URI. It is "" for an anonymous caller.
func CallerOf(from string) string {
	caller := sipuri.Caller(from)
	return caller[:min(len(caller), maxAOR)]
}
