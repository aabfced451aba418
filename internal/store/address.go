package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"

	"github.com/sipwake/sipwake/internal/copied"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
)

// Tags after the tokens of an address. A new field needs a tag here, a line in
// AppendAddress and a case in readAddress. Equal addresses must be equal bytes: write
// the elements of a set in a fixed order, and write nothing for fields that are not set.
const (
	tagProvider    = 1
	tagApp         = 2
	tagTeam        = 3
	tagEnvironment = 4
	tagDenied      = 5 // "c" calls, "m" messages
	tagP256dh      = 6
	tagAuth        = 7
)

// Forms of a token. APNs tokens are hexadecimal and are stored in half the space.
const (
	formRaw = 'r'
	formHex = 'h'
)

// AppendTokenKey appends the token as it is stored in a value: its form, then its
// bytes. Equal tokens give equal bytes, so that a script can compare them.
func AppendTokenKey(dst []byte, t secret.Token) []byte {
	s := t.Reveal()
	if !lowerHex(s) {
		return append(append(dst, formRaw), s...)
	}
	dst = append(dst, formHex)
	for i := 0; i < len(s); i += 2 {
		dst = append(dst, nibble(s[i])<<4|nibble(s[i+1]))
	}
	return dst
}

func lowerHex(s string) bool {
	if len(s) == 0 || len(s)%2 != 0 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func nibble(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

// checkAddress returns how many tokens the address has, or the error that readAddress
// would return.
func checkAddress(b []byte) (tokens int, err error) {
	if len(b) == 0 {
		return 0, errShort
	}
	tokens, b = int(b[0]), b[1:]
	for range tokens {
		key, _, rest, ok := cutToken(b)
		if !ok {
			return 0, errShort
		}
		if err := checkTokenKey(key); err != nil {
			return 0, err
		}
		b = rest
	}
	return tokens, eachTag(b, func(byte, []byte) error { return nil })
}

func checkTokenKey(b []byte) error {
	if len(b) == 0 {
		return errShort
	}
	if b[0] != formRaw && b[0] != formHex {
		return errVersion
	}
	return nil
}

func readTokenKey(b []byte) (secret.Token, error) {
	if err := checkTokenKey(b); err != nil {
		return secret.Token{}, err
	}
	if b[0] == formRaw {
		return secret.NewToken(string(b[1:])), nil
	}
	var room [256]byte
	return secret.NewToken(string(hex.AppendEncode(room[:0], b[1:]))), nil
}

// AppendAddress appends the address. Equal addresses give equal bytes.
func AppendAddress(dst []byte, a *pnparam.Address) ([]byte, error) {
	if len(a.Tokens) > math.MaxUint8 {
		return nil, fmt.Errorf("cannot write address: %d tokens, 255 are allowed", len(a.Tokens))
	}
	dst = append(dst, byte(len(a.Tokens)))
	for _, t := range a.Tokens {
		if len(t.Value.Reveal()) >= math.MaxUint16 || len(t.Service) > math.MaxUint8 {
			return nil, fmt.Errorf("cannot write address: token: %w", errTooLong)
		}
		start := len(dst)
		dst = AppendTokenKey(append(dst, 0, 0), t.Value)
		binary.BigEndian.PutUint16(dst[start:], uint16(len(dst)-start-2))
		dst = append(append(dst, byte(len(t.Service))), t.Service...)
	}
	dst = appendTag(dst, tagProvider, string(a.Provider))
	dst = appendTag(dst, tagApp, a.App)
	dst = appendTag(dst, tagTeam, a.Team)
	dst = appendTag(dst, tagEnvironment, string(a.Environment))
	dst = appendTag(dst, tagDenied, deniedText(a.Denied))
	if a.Keys != nil {
		dst = appendTag(dst, tagP256dh, a.Keys.P256dh.Reveal())
		dst = appendTag(dst, tagAuth, a.Keys.Auth.Reveal())
	}
	return dst, nil
}

func deniedText(d pnparam.Denied) string {
	s := ""
	if d.Calls {
		s += "c"
	}
	if d.Messages {
		s += "m"
	}
	return s
}

// cutToken reads the first token in b.
func cutToken(b []byte) (key, service, rest []byte, ok bool) {
	key, b, ok = cut16(b)
	if !ok || len(b) < 1 || len(b) < 1+int(b[0]) {
		return nil, nil, nil, false
	}
	n := 1 + int(b[0])
	return key, b[1:n], b[n:], true
}

func readAddress(b []byte, texts *copied.Texts) (pnparam.Address, error) {
	var a pnparam.Address
	if len(b) == 0 {
		return a, fmt.Errorf("cannot read address: %w", errShort)
	}
	n := int(b[0])
	b = b[1:]
	for range n {
		key, service, rest, ok := cutToken(b)
		if !ok {
			return a, fmt.Errorf("cannot read address: %w", errShort)
		}
		token, err := readTokenKey(key)
		if err != nil {
			return a, fmt.Errorf("cannot read token: %w", err)
		}
		a.Tokens = append(a.Tokens, pnparam.Token{Service: pnparam.Service(texts.Copy(service)), Value: token})
		b = rest
	}
	err := eachTag(b, func(tag byte, s []byte) error {
		switch tag {
		case tagProvider:
			a.Provider = pnparam.Provider(texts.Copy(s))
		case tagApp:
			a.App = texts.Copy(s)
		case tagTeam:
			a.Team = texts.Copy(s)
		case tagEnvironment:
			a.Environment = pnparam.Environment(texts.Copy(s))
		case tagDenied:
			a.Denied = pnparam.Denied{Calls: bytes.IndexByte(s, 'c') >= 0, Messages: bytes.IndexByte(s, 'm') >= 0}
		case tagP256dh, tagAuth:
			if a.Keys == nil {
				a.Keys = new(pnparam.WebPushKeys)
			}
			if tag == tagP256dh {
				a.Keys.P256dh = secret.NewToken(string(s))
			} else {
				a.Keys.Auth = secret.NewToken(string(s))
			}
		}
		return nil
	})
	if err != nil {
		return a, fmt.Errorf("cannot read address: %w", err)
	}
	return a, nil
}

// Tokens calls f with the key of each token (see AppendTokenKey) until f returns
// false. The key points into the value.
func (h Head) Tokens(f func(key []byte) bool) {
	if len(h.Address) == 0 {
		return
	}
	b := h.Address[1:]
	for range h.Address[0] {
		key, _, rest, ok := cutToken(b)
		if !ok || !f(key) {
			return
		}
		b = rest
	}
}

// HasToken reports whether any of the tokens has the given key.
func (h Head) HasToken(key []byte) bool {
	found := false
	h.Tokens(func(k []byte) bool {
		found = string(k) == string(key)
		return !found
	})
	return found
}
