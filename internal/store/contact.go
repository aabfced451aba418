package store

import (
	"encoding/binary"
	"strings"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// The Contact of a binding repeats its address: the token as pn-prid, the app and the
// team in pn-param. The names of these parameters are always the same. So these parts
// are written as references of one byte each: 1 and up refer to the address's tokens,
// refWords and up to the words below. 0 starts a literal text with its length.
const (
	refText   = 0
	refApp    = 255
	refTeam   = 254
	refWords  = 192
	manyWords = 8
	maxRefs   = refWords - 1
)

// words must keep their order, because existing values refer to them by number. New
// words go at the end. A word comes before any other word that is its prefix.
func words() [manyWords]string {
	return [...]string{
		";transport=tls;pn-provider=apns;pn-param=", ";pn-provider=apns;pn-param=", ";pn-provider=fcm;pn-param=",
		";pn-provider=webpush", ";pn-param=", ";pn-prid=", ";transport=", ";pn-provider=",
	}
}

func appendContact(dst []byte, contact string, a *pnparam.Address) []byte {
	at, ref, n := findRef(contact, a)
	if at < 0 {
		return appendTag(dst, tagContact, contact)
	}
	var room [512]byte
	pieces := room[:0]
	for at >= 0 {
		pieces = appendText(pieces, contact[:at])
		pieces = append(pieces, ref)
		contact = contact[at+n:]
		at, ref, n = findRef(contact, a)
	}
	pieces = appendText(pieces, contact)
	dst = binary.AppendUvarint(append(dst, tagContactRef), uint64(len(pieces)))
	return append(dst, pieces...)
}

func appendText(dst []byte, s string) []byte {
	if s == "" {
		return dst
	}
	dst = binary.AppendUvarint(append(dst, refText), uint64(len(s)))
	return append(dst, s...)
}

// findRef finds the first part of s that can be written as a reference. It looks only
// where one can start: a parameter starts with a semicolon; a token or an app is at the
// start of s or follows a semicolon, an equals sign, a dot or a colon.
func findRef(s string, a *pnparam.Address) (at int, ref byte, n int) {
	if ref, n = addressRef(s, a); n > 0 {
		return 0, ref, n
	}
	for at < len(s) {
		i := strings.IndexAny(s[at:], ";=.:&")
		if i < 0 {
			return -1, 0, 0
		}
		at += i
		if s[at] == ';' {
			for k, w := range words() {
				if strings.HasPrefix(s[at:], w) {
					return at, byte(refWords + k), len(w)
				}
			}
		}
		at++
		if ref, n = addressRef(s[at:], a); n > 0 {
			return at, ref, n
		}
	}
	return -1, 0, 0
}

// addressRef returns the reference for the part of the address that s starts with.
func addressRef(s string, a *pnparam.Address) (ref byte, n int) {
	const worth = 4
	for i := range min(len(a.Tokens), maxRefs) {
		if t := a.Tokens[i].Value.Reveal(); len(t) >= worth && strings.HasPrefix(s, t) {
			return byte(i + 1), len(t)
		}
	}
	if len(a.App) >= worth && strings.HasPrefix(s, a.App) {
		return refApp, len(a.App)
	}
	if len(a.Team) >= worth && strings.HasPrefix(s, a.Team) {
		return refTeam, len(a.Team)
	}
	return 0, 0
}

func readContact(b []byte, a *pnparam.Address) (string, error) {
	words := words()
	var room [512]byte
	s := room[:0]
	for len(b) > 0 {
		ref, text, rest, err := cutPiece(b, len(a.Tokens))
		if err != nil {
			return "", err
		}
		switch {
		case ref == refText:
			s = append(s, text...)
		case ref == refApp:
			s = append(s, a.App...)
		case ref == refTeam:
			s = append(s, a.Team...)
		case ref >= refWords:
			s = append(s, words[ref-refWords]...)
		default:
			s = append(s, a.Tokens[ref-1].Value.Reveal()...)
		}
		b = rest
	}
	return string(s), nil
}

// cutPiece reads the first piece of a Contact whose address has that many tokens.
func cutPiece(b []byte, tokens int) (ref int, text, rest []byte, err error) {
	ref, b = int(b[0]), b[1:]
	switch {
	case ref == refText:
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return 0, nil, nil, errShort
		}
		return ref, b[w : w+int(n)], b[w+int(n):], nil
	case ref == refApp, ref == refTeam, ref <= tokens && ref <= maxRefs, ref >= refWords && ref < refWords+manyWords:
		return ref, nil, b, nil
	}
	return 0, nil, nil, errVersion
}

// checkContact returns the error that readContact would return.
func checkContact(b []byte, tokens int) (err error) {
	for err == nil && len(b) > 0 {
		_, _, b, err = cutPiece(b, tokens)
	}
	return err
}
