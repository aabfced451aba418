package local

import (
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/aor"
	"github.com/sipwake/sipwake/internal/wake"
)

const shards = 256

// shard holds the AORs that are active, each with all it has: what is here is
// the truth, the file only follows. An AOR is read in when it is first used and
// dropped when it is at rest.
type shard struct {
	mu      sync.Mutex
	aors    map[string]*state
	scratch []byte // a value being written
}

// state is an AOR in memory, under its shard's lock.
type state struct {
	aor.State
	queued bool // the writer will look at it
	// notes are those of removals that are not in the file yet; the writer has the
	// first of them in hand.
	notes  []wake.RemovalNote
	inHand int
}

// resting reports whether the file knows all of it. Call Expire first.
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

// took leaves notes of the devices that went, and returns the tokens that they had. The
// writer must be told of the state.
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
