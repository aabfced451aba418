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
		for i := 0; pb.Next(); i++ {
			if i%1024 == 0 {
				l.take(time.Now(), writeBatch, true)
			}
			l.Add(ids[i%1024], Event{Name: Accepted, Device: "5e1f0c2f6a3b4d5e6f70", Detail: "apns", Provider: "apns"})
		}
	})
}
