package store_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sipwake/sipwake/internal/store"
)

func TestAORs(t *testing.T) {
	for _, list := range [][]string{nil, {"alice@example.com"}, {"a", "b\x00c", "\xff", "d"}} {
		v := store.AppendAORs(nil, list)
		if got := store.ReadAORs(v); !slices.Equal(got, list) {
			t.Errorf("%q: read %q", list, got)
		}
		for n := range v {
			store.ReadAORs(v[:n]) // does not panic
		}
	}
	// What was written before there could be several.
	if got := store.ReadAORs([]byte("alice@example.com")); !slices.Equal(got, []string{"alice@example.com"}) {
		t.Errorf("one: %q", got)
	}
	var list []string
	for n := range 3 * store.MaxAORs {
		list = store.WithAOR(list, fmt.Sprint(n), false)
	}
	list = store.WithAOR(list, fmt.Sprint(2*store.MaxAORs), false)
	if len(list) != store.MaxAORs || list[0] != fmt.Sprint(2*store.MaxAORs+1) || list[store.MaxAORs-1] != fmt.Sprint(2*store.MaxAORs) {
		t.Errorf("the last ones: %q", list)
	}
	if late := store.WithAOR(list, "late", true); !slices.Equal(late, list) {
		t.Errorf("a late one, without room: %q", late)
	}
	list = store.WithoutAOR(list, list[3])
	if late := store.WithAOR(list, "late", true); len(late) != store.MaxAORs || late[0] != "late" {
		t.Errorf("a late one: %q", late)
	}
}
