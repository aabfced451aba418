package local

import (
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/aor"
	"github.com/sipwake/sipwake/internal/wake"
)

const shards = 256

// shard holds the active AORs, each complete. The state in memory is authoritative and
// the file follows it. An AOR is loaded when it is first used and dropped when the file
// has everything.
type shard struct {
	mu      sync.Mutex
	aors    map[string]*state
	scratch []byte // buffer for a value
}

// state is an AOR in memory, under its shard's lock.
type state struct {
	aor.State
	queued bool   // the writer will visit it
	batch  uint64 // the writer's last visit
	// notes are the notes of removals that are not in the file yet. The writer is
	// currently writing the first inHand of them.
	notes  []wake.RemovalNote
	inHand int
}

// resting reports whether the file has the complete state. Call Expire first.
func (st *state) resting(recentSince time.Time) bool {
	if st.queued || !st.Idle() || len(st.notes) > 0 {
		return false
	}
	for _, d := range st.Devices {
		if d.Dirty() || d.Seen.After(recentSince) {
			return false
		}
	}
	return true
}

// took leaves notes for the removed devices and returns the hashes of their tokens. The
// caller must pass the state to the writer.
func (st *state) took(went []aor.Went, now time.Time) (hashes []tokenHash) {
	for _, w := range went {
		if w.Reason != "" {
			st.note(store.NewNote(w.Name, w.Value, w.Reason, now))
		}
		hashes = append(hashes, tokens(w.Head)...)
	}
	return hashes
}

// tokens returns the hashes of the tokens.
func tokens(h store.Head) (list []tokenHash) {
	h.Tokens(func(key []byte) bool {
		list = append(list, hashToken(key))
		return true
	})
	return list
}
