package store

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sipwake/sipwake/internal/upper"
)

// The value of a registration at a PBX, big-endian:
//
//	1 version  8 stamp  8 due  JSON of the rest
//
// The fixed offsets let a script in Redis compare the stamp.
const (
	atStamp   = 1
	atDue     = 9
	upperHead = 17
)

// AppendUpper appends the value of u with the given stamp.
func AppendUpper(dst []byte, u *upper.Registration, stamp uint64) ([]byte, error) {
	text, err := json.Marshal(u)
	if err != nil {
		return nil, fmt.Errorf("cannot write registration: %w", err)
	}
	dst = binary.BigEndian.AppendUint64(append(dst, Version), stamp)
	return append(appendTime(dst, u.Due), text...), nil
}

// DecodeUpper reads a value that AppendUpper wrote.
func DecodeUpper(v []byte) (u upper.Registration, err error) {
	if len(v) < upperHead {
		return u, fmt.Errorf("cannot read registration: %w", errShort)
	}
	if v[0] != Version {
		return u, fmt.Errorf("cannot read registration: version %d: %w", v[0], errVersion)
	}
	if err := json.Unmarshal(v[upperHead:], &u); err != nil {
		return u, fmt.Errorf("cannot read registration: %w", err)
	}
	u.Stamp, u.Due = binary.BigEndian.Uint64(v[atStamp:]), readTime(v[atDue:])
	u.LastOK = u.LastOK.UTC().Truncate(time.Microsecond)
	return u, nil
}

// UpperStamp returns the stamp of a value, 0 if there is none.
func UpperStamp(v []byte) uint64 {
	if len(v) < upperHead {
		return 0
	}
	return binary.BigEndian.Uint64(v[atStamp:])
}

// UpperDue returns when a value is due.
func UpperDue(v []byte) time.Time {
	if len(v) < upperHead {
		return time.Time{}
	}
	return readTime(v[atDue:])
}

// SetUpperDue changes when a value is due.
func SetUpperDue(v []byte, due time.Time) {
	if len(v) >= upperHead {
		copy(v[atDue:], appendTime(nil, due))
	}
}
