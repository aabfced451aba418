package store_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// What sipwake wrote with version 1, and every later one must read.
const goldenNotes = "AQBcAAZHXvZXTzUALzx1cm46dXVpZDpmODFkNGZhZS03ZGVjLTExZDAtYTc2NS0wMGEwYzkxZTZiZjY+BGFwbnMAEWNvbS5leGFtcGxlLnBob25lCnRva2VuX2RlYWQ"

func TestNotes(t *testing.T) {
	b := binding()
	value := unbase64(t, goldenBinding)
	now := b.RegisteredAt
	n := store.NewNote(b.Device, value, "token_dead", now)
	want := wake.RemovalNote{Device: b.Device, Provider: "apns", App: "com.example.phone", Reason: "token_dead", At: now}
	if d := cmp.Diff(want, n); d != "" {
		t.Fatalf("want - got +\n%s", d)
	}
	v := store.AddNote(nil, &n)
	if got := base64.RawStdEncoding.EncodeToString(v); got != goldenNotes {
		t.Errorf("notes are written in another way: add a golden value if this is meant\n%s", got)
	}
	if got := store.AddNote(v, &n); !bytes.Equal(got, v) {
		t.Error("a note was added twice")
	}
	for _, token := range b.Address.Tokens {
		if key := store.AppendTokenKey(nil, token.Value); bytes.Contains(v, key[1:]) {
			t.Error("a token is in a note")
		}
	}
	for k := range 2 * store.MaxNotes {
		n.Reason, n.At = fmt.Sprint(k), now.Add(time.Duration(k)*24*time.Hour)
		v = store.AddNote(v, &n)
	}
	list := store.ReadNotes(v, n.At)
	if len(list) != store.MaxNotes || list[0].Reason != fmt.Sprint(store.MaxNotes) {
		t.Errorf("%d notes, the first is %+v", len(list), list[0])
	}
	for k := range v {
		store.ReadNotes(v[:k], n.At) // does not panic
	}
	if list := store.ReadNotes(v, list[3].At.Add(store.NoteKeep)); len(list) != store.MaxNotes-4 {
		t.Errorf("%d notes are left after their time", len(list))
	}
	n.At = n.At.Add(store.NoteKeep)
	if list := store.ReadNotes(store.AddNote(v, &n), n.At); len(list) != 1 {
		t.Errorf("%d notes, want the new one", len(list))
	}
	long := wake.RemovalNote{Device: strings.Repeat("d", 70_000), App: strings.Repeat("a", 70_000), Reason: strings.Repeat("r", 300), At: now}
	if list := store.ReadNotes(store.AddNote(nil, &long), now); len(list) != 1 || len(list[0].Device)+len(list[0].App) != 2000 {
		t.Errorf("a long one: %d notes", len(list))
	}
}
