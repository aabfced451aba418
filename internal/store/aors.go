package store

import (
	"encoding/binary"
	"slices"
)

// MaxAORs is how many AORs the index keeps per token: one phone may have several
// accounts. One more replaces the AOR that registered the longest time ago.
const MaxAORs = 8

// AppendAORs appends the value of a token in a token index: the AORs that have the
// token, the one that registered last at the end. A single AOR is written literally, as
// in every version; several follow a zero byte, each as 2+n.
func AppendAORs(dst []byte, aors []string) []byte {
	if len(aors) == 1 {
		return append(dst, aors[0]...)
	}
	if len(aors) > 0 {
		dst = append(dst, 0)
	}
	for _, aor := range aors {
		dst = append16(dst, aor)
	}
	return dst
}

// ReadAORs undoes AppendAORs. It ignores what it cannot read: users of the index compare
// the token with the binding's anyway.
func ReadAORs(v []byte) []string {
	switch {
	case len(v) == 0:
		return nil
	case v[0] != 0:
		return []string{string(v)}
	}
	var list []string
	for v = v[1:]; len(v) >= 2; {
		n := 2 + int(binary.BigEndian.Uint16(v))
		if len(v) < n {
			return list
		}
		list = append(list, string(v[2:n]))
		v = v[n:]
	}
	return list
}

// WithAOR returns the list with the AOR moved or added to its end, cut to MaxAORs. A
// late AOR that is already in the list keeps its position; a new late one is added at the
// front, if there is room.
func WithAOR(list []string, aor string, late bool) []string {
	if late {
		if slices.Contains(list, aor) || len(list) >= MaxAORs {
			return list
		}
		return append([]string{aor}, list...)
	}
	list = append(WithoutAOR(list, aor), aor)
	return list[max(len(list)-MaxAORs, 0):]
}

// WithoutAOR returns a new list without the AOR.
func WithoutAOR(list []string, aor string) []string {
	others := make([]string, 0, len(list)+1)
	for _, a := range list {
		if a != aor {
			others = append(others, a)
		}
	}
	return others
}
