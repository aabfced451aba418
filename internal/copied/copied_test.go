package copied

import (
	"fmt"
	"testing"
)

// Copies stay what they were, whatever happens to the source, and however many follow.
func TestTexts(t *testing.T) {
	texts := Texts{Usual: 16}
	var got, want []string
	source := make([]byte, 0, 64)
	for i := range 40 {
		text := fmt.Sprint(i * i * i * i * i)
		source = append(source[:0], text...)
		got, want = append(got, texts.Copy(source)), append(want, text)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%d: %q, want %q", i, got[i], want[i])
		}
	}
	if texts.Copy(nil) != "" || len(texts.Copy(make([]byte, 99))) != 99 {
		t.Error("an empty or a long text is wrong")
	}
}
