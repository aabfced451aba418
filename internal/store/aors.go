package store

import (
	"encoding/binary"
	"slices"
)

// MaxAORs is how many AORs one token is found under: one phone has several accounts.
// One more replaces the one that registered the longest time ago.
const MaxAORs = 8

// AppendAORs appends what an index of tokens has for a token: the AORs that have it,
// the one that registered last at the end. One is written as it is, as every version
// did; several behind a zero byte, each as 2+n.
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

// ReadAORs undoes AppendAORs. What cannot be read is nothing: whoever uses the index
// compares the token with the binding's.
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

// WithAOR returns the list with the AOR as the last of at most MaxAORs. A late one is
// added as the first instead, if there is room, and one that is known stays where it
// is.
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

// WithoutAOR returns a list of the others.
func WithoutAOR(list []string, aor string) []string {
	others := make([]string, 0, len(list)+1)
	for _, a := range list {
		if a != aor {
			others = append(others, a)
		}
	}
	return others
}
