// Package store holds what the stores share: the encoding of bindings, registrations,
// wakes and messages. The stores themselves are in the subdirectories.
//
// Every value starts with a version. A new field gets a new tag: older code skips it, and
// newer code must accept values without it. Only a change of the head needs a new version,
// and then the old one must still be readable.
//
// The head of a binding is big-endian with fixed offsets, so that a script inside Redis
// can read it with struct.unpack alone:
//
//	1 version  8 seen  8 registered  8 created  8 expires  4 CSeq
//	2+n Call-ID  2+n address
//
// Times are microseconds since 1970; 0 is the zero time. The address starts with
// the number of its tokens (1), then each token (2+n, see AppendTokenKey) with its
// service (1+n). Tagged fields follow the head and the address: 1 tag, a uvarint
// length, the bytes.
package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sipwake/sipwake/internal/copied"
	"github.com/sipwake/sipwake/internal/wake"
)

// Version is the version of the values written now.
const Version = 1

// Offsets of the head's fields.
const (
	atSeen       = 1
	atRegistered = 9
	atCreated    = 17
	atExpires    = 25
	atCSeq       = 33
	atCallID     = 37
)

// Tags after the head of a binding.
const (
	tagContact    = 1 // the literal Contact
	tagContactRef = 2 // the Contact with references into the address
	tagNode       = 3
	tagSource     = 4
	tagUserAgent  = 5
)

var (
	errShort   = errors.New("value is cut short")
	errVersion = errors.New("value was written by a newer sipwake")
	errTooLong = errors.New("field is longer than 65535 bytes")
)

// Head holds the fields that decide what a REGISTER does. It is read without copying:
// its slices point into the value.
type Head struct {
	Seen       time.Time // when a store accepted it, by the store's clock
	Registered time.Time
	Expires    time.Time // zero: the registration was ended
	CSeq       uint32
	CallID     []byte
	Address    []byte // as AppendAddress writes it: equal addresses are equal bytes
	Value      []byte // the whole value
	rest       []byte
}

// ReadHead reads the head of a binding's value. It fails if the value is damaged or was
// written by a newer sipwake.
func ReadHead(v []byte) (Head, error) {
	if len(v) < atCallID {
		return Head{}, fmt.Errorf("cannot read binding: %w", errShort)
	}
	if v[0] != Version {
		return Head{}, fmt.Errorf("cannot read binding: version %d: %w", v[0], errVersion)
	}
	h := Head{
		Seen:       readTime(v[atSeen:]),
		Registered: readTime(v[atRegistered:]),
		Expires:    readTime(v[atExpires:]),
		CSeq:       binary.BigEndian.Uint32(v[atCSeq:]),
		Value:      v,
		rest:       v[atCallID:],
	}
	var ok1, ok2 bool
	h.CallID, h.rest, ok1 = cut16(h.rest)
	h.Address, h.rest, ok2 = cut16(h.rest)
	if !ok1 || !ok2 {
		return Head{}, fmt.Errorf("cannot read binding: %w", errShort)
	}
	return h, nil
}

// After reports whether the registration of h is later than that of call and cseq: it
// has the same Call-ID and a higher CSeq (RFC 3261 section 10.3).
func (h Head) After(call string, cseq uint32) bool {
	return h.CSeq > cseq && string(h.CallID) == call
}

// AppendBinding appends the value of b and also returns its head. AOR and Device are left
// out: they are the key. seen is when the store accepted it. Times are kept to the
// microsecond. AppendBinding fails if a field is longer than 65535 bytes.
func AppendBinding(dst []byte, b *wake.Binding, seen time.Time) ([]byte, Head, error) {
	from := len(dst)
	dst = append(dst, Version)
	dst = appendTime(dst, seen)
	dst = appendTime(dst, b.RegisteredAt)
	dst = appendTime(dst, b.CreatedAt)
	dst = appendTime(dst, b.ExpiresAt)
	dst = binary.BigEndian.AppendUint32(dst, b.CSeq)
	if len(b.CallID) > math.MaxUint16 {
		return nil, Head{}, fmt.Errorf("cannot write binding: Call-ID: %w", errTooLong)
	}
	dst = append16(dst, b.CallID)

	start := len(dst)
	dst, err := AppendAddress(append(dst, 0, 0), &b.Address)
	if err != nil {
		return nil, Head{}, err
	}
	size := len(dst) - start - 2
	if size > math.MaxUint16 {
		return nil, Head{}, fmt.Errorf("cannot write binding: address: %w", errTooLong)
	}
	binary.BigEndian.PutUint16(dst[start:], uint16(size))
	tags := len(dst)

	dst = appendContact(dst, b.Contact, &b.Address)
	dst = appendTag(dst, tagNode, b.Node)
	dst = appendTag(dst, tagSource, b.Source)
	dst = appendTag(dst, tagUserAgent, b.UserAgent)
	v := dst[from:]
	return dst, Head{
		Seen: readTime(v[atSeen:]), Registered: readTime(v[atRegistered:]), Expires: readTime(v[atExpires:]), CSeq: b.CSeq,
		CallID: dst[from+atCallID+2 : start], Address: dst[start+2 : tags], Value: v, rest: dst[tags:],
	}, nil
}

// DecodeBinding reads a binding's value. Unknown tags are skipped.
func DecodeBinding(aor, device string, v []byte) (wake.Binding, error) {
	h, err := ReadHead(v)
	if err != nil {
		return wake.Binding{}, err
	}
	texts := copied.Texts{Usual: len(v) / 2} // most of the rest are the head, tokens and references
	b := wake.Binding{
		AOR: aor, Device: device,
		CallID: texts.Copy(h.CallID), CSeq: h.CSeq,
		RegisteredAt: h.Registered,
		CreatedAt:    readTime(v[atCreated:]),
		ExpiresAt:    readTime(v[atExpires:]),
	}
	if b.Address, err = readAddress(h.Address, &texts); err != nil {
		return wake.Binding{}, err
	}
	err = eachTag(h.rest, func(tag byte, s []byte) error {
		switch tag {
		case tagContact:
			b.Contact = texts.Copy(s)
		case tagContactRef:
			var err error
			b.Contact, err = readContact(s, &b.Address)
			return err
		case tagNode:
			b.Node = texts.Copy(s)
		case tagSource:
			b.Source = texts.Copy(s)
		case tagUserAgent:
			b.UserAgent = texts.Copy(s)
		}
		return nil
	})
	if err != nil {
		return wake.Binding{}, fmt.Errorf("cannot read binding: %w", err)
	}
	return b, nil
}

// CheckBinding returns an error if DecodeBinding would. It costs much less.
func CheckBinding(v []byte) error {
	h, err := ReadHead(v)
	if err != nil {
		return err
	}
	tokens, err := checkAddress(h.Address)
	if err != nil {
		return fmt.Errorf("cannot read address: %w", err)
	}
	return eachTag(h.rest, func(tag byte, s []byte) error {
		if tag != tagContactRef {
			return nil
		}
		return checkContact(s, tokens)
	})
}

// AppendEncoded is AppendBinding for a REGISTER whose binding may have been encoded before
// (Registration.Value).
func AppendEncoded(dst []byte, r *wake.Registration, seen time.Time) ([]byte, Head, error) {
	if r.Value == nil {
		return AppendBinding(dst, &r.Binding, seen)
	}
	from := len(dst)
	dst = append(dst, r.Value...)
	h, err := ReadHead(dst[from:])
	if err != nil {
		return nil, Head{}, err
	}
	appendTime(dst[:from+atSeen], seen)
	h.Seen = readTime(dst[from+atSeen:])
	return dst, h, nil
}

// KeepCreated copies the creation time from the value old to the value v, because a
// refresh does not change when a binding was created. Both must have a head.
func KeepCreated(v, old []byte) { copy(v[atCreated:atExpires], old[atCreated:atExpires]) }

// AppendOrder appends the value old with the order (Call-ID, CSeq) and the ExpiresAt
// of v: an un-REGISTER changes nothing else. Both must have a head.
func AppendOrder(dst, old, v []byte) []byte {
	end := func(b []byte) int { return atCallID + 2 + int(binary.BigEndian.Uint16(b[atCallID:])) }
	dst = append(dst, old[:atExpires]...)
	dst = append(dst, v[atExpires:end(v)]...)
	return append(dst, old[end(old):]...)
}

// TimesSize is the length of what Times returns.
const TimesSize = atCallID - atSeen

// Times returns the part of the value v that every REGISTER of a phone changes: when it
// was seen, registered and created, when it expires, and its CSeq. v must have a head.
func Times(v []byte) []byte { return v[atSeen:atCallID] }

// Lasting returns the rest of the value v. v must have a head.
func Lasting(v []byte) []byte { return v[atCallID:] }

// SeenLater reports whether the first of two Times was seen after the second, or with it.
func SeenLater(a, b []byte) bool {
	const n = atRegistered - atSeen
	return bytes.Compare(a[:n], b[:n]) >= 0
}

// EndRegistration marks the registration in the value v as ended. v must have a head.
func EndRegistration(v []byte) { clear(v[atExpires:atCSeq]) }

func appendTime(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.BigEndian.AppendUint64(dst, 0)
	}
	return binary.BigEndian.AppendUint64(dst, uint64(max(t.UnixMicro(), 0)))
}

func readTime(b []byte) time.Time {
	us := binary.BigEndian.Uint64(b)
	if us == 0 || us > math.MaxInt64 {
		return time.Time{}
	}
	return time.UnixMicro(int64(us)).UTC()
}

func append16[T string | []byte](dst []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

func cut16(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

// appendTag appends a tagged field, nothing if it is empty.
func appendTag[T string | []byte](dst []byte, tag byte, s T) []byte {
	if len(s) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(append(dst, tag), uint64(len(s)))
	return append(dst, s...)
}

func eachTag(b []byte, f func(tag byte, s []byte) error) error {
	for len(b) > 0 {
		tag := b[0]
		n, w := binary.Uvarint(b[1:])
		if w <= 0 || n > uint64(len(b)-1-w) {
			return errShort
		}
		b = b[1+w:]
		if err := f(tag, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
