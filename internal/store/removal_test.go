package store_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/store"
)

// A token goes out of a value of version 1, and nothing else does.
func TestWithoutToken(t *testing.T) {
	const unknown = "\xc8\x03new"
	whole := append(unbase64(t, goldenBinding), unknown...)
	for i := range 2 {
		want := binding()
		key := store.AppendTokenKey(nil, want.Address.Tokens[i].Value)
		v, left, err := store.WithoutToken(whole, key)
		if err != nil || left != 1 || !bytes.HasSuffix(v, []byte(unknown)) {
			t.Fatalf("token %d: %d left, %v, %q", i, left, err, v)
		}
		want.Address.Tokens = slices.Delete(want.Address.Tokens, i, i+1)
		got, err := store.DecodeBinding(want.AOR, want.Device, v)
		if d := cmp.Diff(want, got, sameToken); d != "" || err != nil {
			t.Errorf("token %d: %v, want - got +\n%s", i, err, d)
		}
		// It is as if it had been written without the token.
		_, h1, err := store.AppendBinding(nil, &want, time.Time{})
		h2, _ := store.ReadHead(v)
		if err != nil || !bytes.Equal(h1.Address, h2.Address) {
			t.Errorf("token %d: the address is written in another way", i)
		}
		if same, left, err := store.WithoutToken(v, key); err != nil || left != 1 || !bytes.Equal(same, v) {
			t.Errorf("token %d again: %d left, %v", i, left, err)
		}
	}
	for n := range whole {
		_, _, _ = store.WithoutToken(whole[:n], []byte("x")) // does not panic
	}
}
