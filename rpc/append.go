package rpc

import (
	"strconv"
	"unicode/utf8"

	"github.com/sipwake/sipwake/internal/wake"
)

// appender is a result that writes itself exactly as encoding/json would. It is for
// methods that run for every call and every REGISTER.
type appender interface {
	appendJSON(dst []byte) []byte
}

var (
	_ appender = registerResult{}
	_ appender = startResult{}
	_ appender = endResult{}
	_ appender = progressResult{}
)

type registerResult struct {
	Status      wake.Status `json:"status"`
	Code        int         `json:"code"`
	MinExpires  int         `json:"min_expires,omitempty"`
	FeatureCaps []string    `json:"feature_caps"`
	Devices     int         `json:"devices"`
	Wakes       int         `json:"wakes"`
	Sleeps      bool        `json:"sleeps"`
	Contact     string      `json:"contact,omitempty"`
	Problem     string      `json:"problem,omitempty"`
}

func (r registerResult) appendJSON(dst []byte) []byte {
	dst = appendText(append(dst, `{"status":`...), string(r.Status))
	dst = appendInt(append(dst, `,"code":`...), r.Code)
	if r.MinExpires != 0 {
		dst = appendInt(append(dst, `,"min_expires":`...), r.MinExpires)
	}
	dst = append(dst, `,"feature_caps":[`...)
	for i, f := range r.FeatureCaps {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendText(dst, f)
	}
	dst = appendInt(append(dst, `],"devices":`...), r.Devices)
	dst = appendInt(append(dst, `,"wakes":`...), r.Wakes)
	dst = strconv.AppendBool(append(dst, `,"sleeps":`...), r.Sleeps)
	if r.Contact != "" {
		dst = appendText(append(dst, `,"contact":`...), r.Contact)
	}
	if r.Problem != "" {
		dst = appendText(append(dst, `,"problem":`...), r.Problem)
	}
	return append(dst, '}')
}

type startResult struct {
	Outcome wake.Outcome `json:"outcome"`
	Devices int          `json:"devices"`
	HoldS   int          `json:"hold_s"`
	Cached  bool         `json:"cached,omitempty"`
	UUID    string       `json:"uuid"`
	AOR     string       `json:"aor,omitempty"`
}

func (r startResult) appendJSON(dst []byte) []byte {
	dst = appendText(append(dst, `{"outcome":`...), string(r.Outcome))
	dst = appendInt(append(dst, `,"devices":`...), r.Devices)
	dst = appendInt(append(dst, `,"hold_s":`...), r.HoldS)
	if r.Cached {
		dst = append(dst, `,"cached":true`...)
	}
	dst = appendText(append(dst, `,"uuid":`...), r.UUID)
	if r.AOR != "" {
		dst = appendText(append(dst, `,"aor":`...), r.AOR)
	}
	return append(dst, '}')
}

type endResult struct {
	Pending bool `json:"pending"`
}

func (r endResult) appendJSON(dst []byte) []byte {
	return append(strconv.AppendBool(append(dst, `{"pending":`...), r.Pending), '}')
}

type progressResult struct {
	Withheld bool `json:"withheld"`
}

func (r progressResult) appendJSON(dst []byte) []byte {
	return append(strconv.AppendBool(append(dst, `{"withheld":`...), r.Withheld), '}')
}

func appendInt(dst []byte, n int) []byte { return strconv.AppendInt(dst, int64(n), 10) }

// appendText appends a JSON string, byte for byte as encoding/json writes it:
// characters special in HTML or JavaScript are escaped, invalid UTF-8 is replaced.
func appendText[T string | []byte](dst []byte, s T) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
			switch {
			case r == utf8.RuneError && size == 1:
				dst = append(append(dst, s[start:i]...), `\ufffd`...)
				start = i + size
			case r == '\u2028' || r == '\u2029':
				dst = append(append(dst, s[start:i]...), `\u202`...)
				dst = append(dst, digits[r&15])
				start = i + size
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}
