package leak

import (
	"bytes"
	"encoding/binary"
)

// index finds many texts in one pass: first by a filter over their first eight bytes, then
// by these bytes.
type index struct {
	filter [filterSize / 64]uint64
	by     map[uint64][]needle
	known  map[string]bool
}

type needle struct{ text, form, hash string }

const filterSize = 1 << 23 // bits

func newIndex() *index { return &index{by: map[uint64][]needle{}, known: map[string]bool{}} }

func slot(key uint64) (word int, bit uint64) {
	h := key * 0x9E3779B97F4A7C15 >> 41 // 23 bits
	return int(h / 64), 1 << (h % 64)
}

func (x *index) add(text, form, hash string) {
	if x.known[text] {
		return
	}
	x.known[text] = true
	key := binary.LittleEndian.Uint64([]byte(text))
	word, bit := slot(key)
	x.filter[word] |= bit
	x.by[key] = append(x.by[key], needle{text, form, hash})
}

// search returns the first findings of a file, at most one for each line.
func (x *index) search(file string, text []byte) []Finding {
	var found []Finding
	line, counted := 1, 0
	for i := 0; i+minSecret <= len(text) && len(found) < maxFindings; i++ {
		key := binary.LittleEndian.Uint64(text[i:])
		word, bit := slot(key)
		if x.filter[word]&bit == 0 {
			continue
		}
		for _, n := range x.by[key] {
			if !bytes.HasPrefix(text[i:], []byte(n.text)) {
				continue
			}
			line += bytes.Count(text[counted:i], []byte("\n"))
			counted = i
			found = append(found, Finding{file, line, n.form, n.hash})
			if end := bytes.IndexByte(text[i:], '\n'); end >= 0 {
				i += end
			} else {
				i = len(text)
			}
			break
		}
	}
	return found
}
