package trace

import (
	"fmt"
	"testing"
	"time"
)

// What a call pays for its timeline, while one that writes takes what changes.
func BenchmarkLogAdd(b *testing.B) {
	l := NewLog(2048)
	l.keep = true
	ids := make([]string, 1024)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
		l.Begin(head(ids[i]))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var due []taken
		for i := 0; pb.Next(); i++ {
			if i%1024 == 0 {
				due = l.take(due[:0], time.Now(), writeBatch, true)
			}
			l.Add(ids[i%1024], Event{Name: Accepted, Device: "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", Detail: "apns", Provider: "apns"})
		}
	})
}

// What exporters cost a call: nothing without them, and no allocation with them.
func BenchmarkLogAddExport(b *testing.B) {
	for _, on := range []bool{false, true} {
		b.Run(fmt.Sprintf("exported=%v", on), func(b *testing.B) {
			l := fullLog(on)
			e := Event{Name: Accepted, Device: "device", Detail: "apns", Provider: "apns"}
			b.ReportAllocs()
			for b.Loop() {
				l.Add("a", e)
			}
		})
	}
}
