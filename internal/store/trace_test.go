package store

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/trace"
)

func timeline() trace.Timeline {
	at := time.Date(2026, 11, 28, 8, 0, 0, 123456000, time.UTC)
	return trace.Timeline{Head: trace.Head{ID: "id", AOR: "bob@example.com", Node: "sip1", CallID: "c", Kind: "call", StartedAt: at},
		Instance: "one", Outcome: "pushing", Reason: "answered", Omitted: 300,
		Events: []trace.Event{
			{At: at, Name: trace.Held, Detail: "sip1"},
			{At: at.Add(time.Second), Name: trace.Accepted, Device: "d", Detail: "apns", Provider: "apns", App: "a", Kind: "cancel", ID: "i",
				Tries: 2, SentAt: at.Add(time.Millisecond)},
			{At: at.Add(time.Minute), Name: trace.Ended, Code: 487},
		}}
}

func TestTrace(t *testing.T) {
	want := timeline()
	got, err := DecodeTrace("id", "one", AppendTrace(nil, &want, 8192))
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, want - got +\n%s", err, diff)
	}
}

// What was written once is read for ever.
func TestTraceGolden(t *testing.T) {
	want := timeline()
	golden, err := hex.DecodeString(goldenTrace)
	if err != nil {
		t.Fatal(err)
	}
	if got := AppendTrace(nil, &want, 8192); goldenTrace != hex.EncodeToString(got) {
		t.Errorf("now it is written %x", got)
	}
	got, err := DecodeTrace("id", "one", append(bytes.Clone(golden), 99, 2, 'x', 'y')) // a tag of a newer sipwake
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, want - got +\n%s", err, diff)
	}
	golden[0] = 2
	if _, err := DecodeTrace("id", "one", golden); err == nil {
		t.Error("another version was read")
	}
}

const goldenTrace = "010006615190386240010f626f62406578616d706c652e636f6d020473697031030163040463616c6c050770757368696e670608616e7377657265640702ac0208140006615190386240010468656c64030473697031083c" +
	"000661519047a48001086163636570746564020164030461706e73040461706e73050161060663616e63656c0701690801020908000661519038662808130006615193cbe9400105656e6465640a02e703"

// Whatever bytes there are, reading them ends with an error or with a timeline that is
// written and read again as it is, and within its bound.
func FuzzTrace(f *testing.F) {
	one := timeline()
	f.Add(AppendTrace(nil, &one, 8192), 8192)
	f.Add(AppendTrace(nil, &one, 10), 100)
	f.Fuzz(func(t *testing.T, v []byte, most int) {
		first, err := DecodeTrace("id", "one", v)
		if err != nil {
			return
		}
		b := AppendTrace([]byte("x"), &first, 1<<30)
		second, err := DecodeTrace("id", "one", b[1:])
		if diff := cmp.Diff(first, second); diff != "" || err != nil {
			t.Fatalf("%v, first - second +\n%s", err, diff)
		}
		short := AppendTrace(nil, &first, most)
		third, err := DecodeTrace("id", "one", short)
		if err != nil {
			t.Fatal(err)
		}
		if len(third.Events) > 0 && len(short) > most || len(third.Events)+third.Omitted != len(first.Events)+first.Omitted {
			t.Fatalf("%d bytes of %d, %d events, %d omitted", len(short), most, len(third.Events), third.Omitted)
		}
		if !bytes.HasPrefix(short, v[:1]) {
			t.Fatal("another version")
		}
	})
}
