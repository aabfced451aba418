// Package store holds what the stores share: how a binding, a registration, a
// wake and a message are written down. The stores themselves are the folders below.
//
// Every value starts with a version. Fields are added by giving them a tag of
// their own, which older code skips and newer code may miss; only a change of
// the head needs a new version, and then the old one must still be read.
//
// Head of a binding, big-endian, at fixed places so that a script inside Redis
// can read it with struct.unpack and nothing else:
//
//	1 version  8 seen  8 registered  8 created  8 expires  4 CSeq
//	2+n Call-ID  2+n address
//
// Times are microseconds since 1970, 0 is the zero time. The address starts with
// the number of its tokens (1), then each token (2+n, see TokenKey) with its
// service (1+n). What follows head and address is tagged: 1 tag, a uvarint
// length, the bytes.
package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sipwake/sipwake/internal/wake"
)

// Version is the version of the values written now.
const Version = 1

// Places of the head's fields.
const (
	atSeen       = 1
	atRegistered = 9
	atCreated    = 17
	atExpires    = 25
	atCSeq       = 33
	atCallID     = 37
)

// Tags behind the head of a binding.
const (
	tagContact    = 1 // the Contact as it is
	tagContactRef = 2 // the Contact in pieces, some of them held by the address
	tagNode       = 3
	tagSource     = 4
	tagUserAgent  = 5
)

var (
	errShort   = errors.New("value is cut short")
	errVersion = errors.New("value was written by a newer sipwake")
	errTooLong = errors.New("field is longer than 65535 bytes")
)

// Head is what decides over a REGISTER, read without copying: its slices point
// into the value.
type Head struct {
	Seen       time.Time // when a store took it, by the store's clock
	Registered time.Time
	Expires    time.Time // zero: the registration was ended
	CSeq       uint32
	CallID     []byte
	Address    []byte // as AppendAddress writes it: equal addresses are equal bytes
	Value      []byte // the whole value
	rest       []byte
}

// ReadHead reads the head of a binding's value. The error is that of a value
// that is damaged or was written by a newer sipwake.
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

// After reports whether the registration of h is a later one than that of call and
// cseq: the same Call-ID, a higher CSeq (RFC 3261 section 10.3).
func (h Head) After(call string, cseq uint32) bool {
	return h.CSeq > cseq && string(h.CallID) == call
}

// AppendBinding appends the value of b, all but its AOR and Device, which are
// the key, and returns its head too. seen is when the store took it. Times are kept to
// the microsecond. The error is that of a field longer than 65535 bytes.
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
	b := wake.Binding{
		AOR: aor, Device: device,
		CallID: string(h.CallID), CSeq: h.CSeq,
		RegisteredAt: h.Registered,
		CreatedAt:    readTime(v[atCreated:]),
		ExpiresAt:    readTime(v[atExpires:]),
	}
	if b.Address, err = readAddress(h.Address); err != nil {
		return wake.Binding{}, err
	}
	err = eachTag(h.rest, func(tag byte, s []byte) error {
		switch tag {
		case tagContact:
			b.Contact = string(s)
		case tagContactRef:
			var err error
			b.Contact, err = readContact(s, &b.Address)
			return err
		case tagNode:
			b.Node = string(s)
		case tagSource:
			b.Source = string(s)
		case tagUserAgent:
			b.UserAgent = string(s)
		}
		return nil
	})
	if err != nil {
		return wake.Binding{}, fmt.Errorf("cannot read binding: %w", err)
	}
	return b, nil
}

// KeepCreated makes the value v as old as the value old: a refresh does not make
// a binding younger. Both must have a head.
func KeepCreated(v, old []byte) { copy(v[atCreated:atExpires], old[atCreated:atExpires]) }

// AppendOrder appends the value old with the order (Call-ID, CSeq) and the
// ExpiresAt of v, which is all that an un-REGISTER changes. Both must have a head.
func AppendOrder(dst, old, v []byte) []byte {
	end := func(b []byte) int { return atCallID + 2 + int(binary.BigEndian.Uint16(b[atCallID:])) }
	dst = append(dst, old[:atExpires]...)
	dst = append(dst, v[atExpires:end(v)]...)
	return append(dst, old[end(old):]...)
}

// EndRegistration makes the value v one whose registration was ended. It must have a
// head.
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

// appendTag leaves empty fields out.
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
