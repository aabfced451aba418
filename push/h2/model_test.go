package h2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// model is a server that sends valid frames in the order that a fuzzer decides, and
// holds the client to what it has been told.
type model struct {
	*peer
	t *testing.T

	mu      sync.Mutex
	open    map[uint32]*modelStream
	seen    map[string]bool // bodies that have come whole: each is of another request
	most    int             // streams that have been allowed since the last acknowledged SETTINGS
	asked   []http2.Setting // SETTINGS that wait for their acknowledgement
	initial int64
	window  int64
	over    bool // GOAWAY has been sent
}

type modelStream struct {
	window int64
	body   []byte
	ended  bool // by the client
}

// read takes what the client sends until the connection ends.
func (m *model) read() {
	for {
		f, err := m.ReadFrame()
		if err != nil {
			return
		}
		m.mu.Lock()
		m.take(f)
		m.mu.Unlock()
	}
}

func (m *model) take(f http2.Frame) {
	id := f.Header().StreamID
	s := m.open[id]
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		if s != nil {
			m.t.Errorf("stream %d is opened twice", id)
		}
		if m.open[id] = (&modelStream{window: m.initial}); len(m.open) > m.most {
			m.t.Errorf("%d streams are open, %d are allowed", len(m.open), m.most)
		}
	case *http2.DataFrame:
		n := int64(f.Length)
		if m.window -= n; m.window < 0 {
			m.t.Errorf("the connection's window is %d", m.window)
		}
		if s == nil {
			return // closed by us meanwhile
		}
		if s.window -= n; s.window < 0 && n > 0 {
			m.t.Errorf("the window of stream %d is %d", id, s.window)
		}
		s.body = append(s.body, f.Data()...)
		if s.ended = f.StreamEnded(); s.ended {
			if m.seen[string(s.body)] {
				m.t.Errorf("%.20q came twice", s.body)
			}
			m.seen[string(s.body)] = true
		}
	case *http2.RSTStreamFrame:
		delete(m.open, id)
	case *http2.SettingsFrame:
		if f.IsAck() && len(m.asked) > 0 {
			m.acknowledged(m.asked[0])
			m.asked = m.asked[1:]
		}
	}
}

// acknowledged: from here on the client holds to the setting.
func (m *model) acknowledged(s http2.Setting) {
	switch s.ID {
	case http2.SettingMaxConcurrentStreams:
		m.most = max(int(s.Val), len(m.open)) // those that are open may stay
	case http2.SettingInitialWindowSize:
		for _, o := range m.open {
			o.window += int64(s.Val) - m.initial
		}
		m.initial = int64(s.Val)
	}
}

// act sends one frame.
func (m *model) act(op, arg byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []uint32
	for id := range m.open {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var id uint32
	if len(ids) > 0 {
		id = ids[int(arg)%len(ids)]
	}
	s := m.open[id]
	switch op % 10 {
	case 0, 1: // an answer that quotes what it answers
		if s != nil && s.ended {
			m.headers(id, false, ":status", "200", "apns-id", strconv.Itoa(len(s.body)))
			_ = m.WriteData(id, true, s.body[:min(len(s.body), 100)])
			delete(m.open, id)
		}
	case 2:
		m.set(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(arg % 4)})
	case 3:
		m.set(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(arg) * 7})
	case 4:
		m.window += int64(arg) * 30
		_ = m.WriteWindowUpdate(0, uint32(arg)*30+1)
		m.window++
	case 5:
		if s != nil {
			s.window += int64(arg) + 1
			_ = m.WriteWindowUpdate(id, uint32(arg)+1)
		}
	case 6:
		if s != nil {
			_ = m.WriteRSTStream(id, []http2.ErrCode{http2.ErrCodeRefusedStream, http2.ErrCodeInternal}[arg%2])
			delete(m.open, id)
			if arg%2 == 0 {
				delete(m.seen, string(s.body)) // not processed: it may come again
			}
		}
	case 7:
		_ = m.WritePing(arg%2 == 0, [8]byte{arg})
	case 8:
		m.set(http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(arg) * 40})
	case 9:
		if arg%8 == 0 && id != 0 && !m.over {
			m.over = true
			_ = m.WriteGoAway(id, http2.ErrCodeNo, nil)
		}
	}
}

func (m *model) set(s http2.Setting) {
	m.asked = append(m.asked, s)
	_ = m.WriteSettings(s)
}

// FuzzModel: whatever valid frames come in whatever order, the client sends no more
// than it is allowed, every push ends, an answer is that of its push, and none comes
// twice that was not declared unprocessed.
func FuzzModel(f *testing.F) {
	f.Add([]byte{4, 255, 3, 200, 0, 0, 0, 0, 2, 1, 6, 0, 2, 3, 0, 1, 0, 1})
	f.Add([]byte{2, 0, 3, 0, 4, 255, 5, 255, 2, 2, 3, 255, 0, 0, 9, 8, 0, 0})
	f.Add([]byte{8, 0, 8, 100, 6, 1, 6, 0, 9, 0, 9, 16, 4, 200, 5, 200, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		client, server := pipe(t)
		m := &model{t: t, open: map[uint32]*modelStream{}, seen: map[string]bool{}, most: 100, initial: 65535, window: 65535}
		started := make(chan struct{})
		go func() {
			m.peer = newPeer(t, server)
			m.asked = []http2.Setting{{ID: 0xff}} // of newPeer
			close(started)
			m.read()
		}()
		c, err := New(t.Context(), client, Config{MaxStreams: 8, MaxBody: 4096, PingAfter: time.Minute, PingTimeout: time.Minute, WriteTimeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		<-started
		var pushes sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 6 {
			pushes.Go(func() { pushModel(ctx, t, c, fmt.Sprintf("%d %0*d", i, 1+i*40, i)) })
		}
		for i := 0; i+1 < len(script) && i < 200; i += 2 {
			m.act(script[i], script[i+1])
			if script[i]%3 == 0 {
				time.Sleep(50 * time.Microsecond)
			}
		}
		time.Sleep(time.Millisecond)
		cancel()
		pushes.Wait()
		_ = c.Close()
		_ = server.Close()
	})
}

// pushModel sends a body until it is answered or may have been processed.
func pushModel(ctx context.Context, t *testing.T, c *Conn, body string) {
	for {
		var resp Response
		err := c.Do(ctx, req(body), &resp)
		if errors.Is(err, ErrUnprocessed) && ctx.Err() == nil && c.Err() == nil {
			continue
		}
		if err != nil || ctx.Err() != nil || c.Err() != nil {
			return
		}
		id := hpack.HeaderField{}
		if len(resp.Header) > 0 {
			id = resp.Header[0]
		}
		if want := body[:min(len(body), 100)]; resp.Status != 200 || id.Value != strconv.Itoa(len(body)) || string(resp.Body) != want {
			t.Errorf("%q is answered %d %v %q", want, resp.Status, id, resp.Body)
		}
		return
	}
}
