// Package copied makes strings of byte slices that live about equally long, such as the
// fields of one request. They share their memory, so many short ones cost one allocation.
package copied

import "strings"

// Texts holds the copies. The zero value is ready. It must not be copied. Not safe for
// concurrent use; the strings are.
type Texts struct {
	// Usual is how many bytes all texts together usually have.
	Usual int

	b strings.Builder
}

// Copy returns b as a string. The memory is kept as long as any string of t is.
func (t *Texts) Copy(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if t.b.Cap()-t.b.Len() < len(b) {
		t.b.Reset() // what was copied before stays where it is
		t.b.Grow(max(t.Usual, len(b)))
	}
	from := t.b.Len()
	t.b.Write(b)
	return t.b.String()[from:]
}
