package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/sipwake/sipwake/internal/copied"
	"github.com/sipwake/sipwake/internal/wake"
)

var (
	errRemovalAOR   = errors.New("an AOR is needed")
	errRemovalToken = errors.New("TokenOnly needs a Token")
)

// CheckRemoval returns an error if a required field of the removal is missing.
func CheckRemoval(r *wake.Removal) error {
	switch {
	case r.AOR == "":
		return errRemovalAOR
	case r.TokenOnly && r.Token.Empty():
		return errRemovalToken
	}
	return nil
}

// Removes reports whether the removal matches the device's binding. token is the key of
// the removal's token, or nil if it has none.
func Removes(r *wake.Removal, token []byte, device string, h Head, now time.Time) bool {
	return (r.Device == "" || r.Device == device) && (token == nil || h.HasToken(token)) &&
		(r.NotAfter.IsZero() || !h.Registered.After(r.NotAfter)) &&
		(!r.Unregistered || h.Expires.Before(now)) // the zero time is before it too
}

// WithoutToken returns the binding's value without the token that has the key, and how
// many tokens are left. Everything else stays, including fields of a newer sipwake.
func WithoutToken(v, key []byte) (rest []byte, left int, err error) {
	h, err := ReadHead(v)
	if err != nil {
		return nil, 0, err
	}
	was, err := readAddress(h.Address, new(copied.Texts))
	if err != nil {
		return nil, 0, err
	}
	rest = append(rest, v[:atCallID+2+len(h.CallID)]...)
	start := len(rest)
	rest = append(rest, 0, 0, 0)
	tokens := h.Address[1:]
	for range h.Address[0] {
		token, _, next, ok := cutToken(tokens)
		if !ok {
			return nil, 0, fmt.Errorf("cannot read address: %w", errShort)
		}
		if string(token) != string(key) {
			rest = append(rest, tokens[:len(tokens)-len(next)]...)
			left++
		}
		tokens = next
	}
	rest = append(rest, tokens...)
	rest[start+2] = byte(left)
	binary.BigEndian.PutUint16(rest[start:], uint16(len(rest)-start-2))
	is, err := readAddress(rest[start+2:], new(copied.Texts))
	if err != nil {
		return nil, 0, err
	}
	// The Contact still contains the token. Encode it again: its references must match the
	// new address.
	err = eachTag(h.rest, func(tag byte, s []byte) error {
		switch tag {
		case tagContact:
			rest = appendContact(rest, string(s), &is)
		case tagContactRef:
			contact, err := readContact(s, &was)
			if err != nil {
				return err
			}
			rest = appendContact(rest, contact, &is)
		default:
			rest = appendTag(rest, tag, s)
		}
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read binding: %w", err)
	}
	return rest, left, nil
}
