package h2

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
)

func (c *Conn) readLoop() {
	for {
		f, err := c.fr.ReadFrame()
		c.mu.Lock()
		if err == nil {
			if !c.heard.Load() {
				c.heard.Store(true)
			}
			err = c.receive(f)
			if len(c.out.b) > maxOut+spareOut {
				err = http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
			}
		}
		if errors.Is(err, http2.ErrFrameTooLarge) {
			err = http2.ConnectionError(http2.ErrCodeFrameSize)
		}
		var se http2.StreamError
		if errors.As(err, &se) {
			err = nil
			if s := c.streams[se.StreamID]; s != nil {
				c.abort(s, se.Code, errMalformed)
			}
		}
		var ce http2.ConnectionError
		switch {
		case errors.As(err, &ce):
			c.failLocked(fmt.Errorf("http2: the server broke the protocol: %w", err), http2.ErrCode(ce))
		case err != nil:
			c.failLocked(fmt.Errorf("http2: the connection was lost: %w", err), http2.ErrCodeNo)
		}
		send := len(c.out.b) > 0
		dead := c.isDead
		c.mu.Unlock()
		if dead {
			return
		}
		if send {
			c.poke()
		}
	}
}

func (c *Conn) receive(f http2.Frame) error {
	h := f.Header()
	s := c.streams[h.StreamID]
	if s == nil && h.StreamID != 0 && (h.StreamID%2 == 0 || h.StreamID >= c.nextID) && h.Type <= http2.FrameContinuation &&
		h.Type != http2.FramePriority {
		return http2.ConnectionError(http2.ErrCodeProtocol) // there was no such stream
	}
	if _, ok := f.(*http2.SettingsFrame); !ok && !c.readyOnce {
		return http2.ConnectionError(http2.ErrCodeProtocol) // SETTINGS come first
	}
	switch f := f.(type) {
	case *http2.HeadersFrame:
		c.block = block{stream: s, end: f.StreamEnded()}
		return c.decode(f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.ContinuationFrame: // in order, or ReadFrame would have said so
		return c.decode(f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.DataFrame:
		return c.data(s, f)
	case *http2.RSTStreamFrame:
		if s != nil {
			err := fmt.Errorf("http2: the server ended the stream: %v", f.ErrCode)
			if f.ErrCode == http2.ErrCodeRefusedStream {
				err = unprocessed(err)
			}
			if len(s.body) > 0 {
				s.body = s.body[:0]
				c.blocked = slices.DeleteFunc(c.blocked, func(o *stream) bool { return o == s })
			}
			c.end(s, err)
		}
	case *http2.SettingsFrame:
		return c.settings(f)
	case *http2.WindowUpdateFrame:
		return c.widen(s, f)
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = c.fr.WritePing(true, f.Data) // into memory
		}
	case *http2.GoAwayFrame:
		c.goAway(f)
	case *http2.PushPromiseFrame: // we said that we want none
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil
}

func (c *Conn) goAway(f *http2.GoAwayFrame) {
	if c.err == nil {
		c.err = fmt.Errorf("http2: the server ends the connection: %v %.100q", f.ErrCode, f.DebugData())
	}
	for id, s := range c.streams {
		if id > f.LastStreamID {
			s.body = s.body[:0]
			c.blocked = slices.DeleteFunc(c.blocked, func(o *stream) bool { return o == s })
			c.end(s, unprocessed(c.err))
		}
	}
	c.next()
	c.rest()
}

func (c *Conn) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	initial := c.initial // applied once, even if a frame repeats it
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return err
		}
		switch s.ID {
		case http2.SettingHeaderTableSize:
			c.enc.SetMaxDynamicTableSizeLimit(s.Val)
			c.enc.SetMaxDynamicTableSize(min(s.Val, 4096))
		case http2.SettingMaxConcurrentStreams:
			c.peerMost = s.Val
		case http2.SettingMaxFrameSize:
			c.maxFrame = int(s.Val)
		case http2.SettingMaxHeaderListSize:
			c.peerList = uint64(s.Val)
		case http2.SettingInitialWindowSize:
			initial = int64(s.Val)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if initial != c.initial {
		for _, o := range c.streams {
			if o.window += initial - c.initial; o.window > maxWindow {
				return http2.ConnectionError(http2.ErrCodeFlowControl)
			}
		}
		c.initial = initial
	}
	_ = c.fr.WriteSettingsAck() // into memory
	c.unblock()
	c.next()
	if !c.readyOnce {
		c.readyOnce = true
		close(c.ready)
	}
	return nil
}

func (c *Conn) widen(s *stream, f *http2.WindowUpdateFrame) error {
	switch {
	case f.StreamID == 0:
		if c.window += int64(f.Increment); c.window > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		c.unblock()
	case s != nil:
		if s.window += int64(f.Increment); s.window > maxWindow {
			return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeFlowControl}
		}
		if len(s.body) > 0 && c.send(s) {
			c.blocked = slices.DeleteFunc(c.blocked, func(o *stream) bool { return o == s })
		}
	}
	return nil
}

// decode decodes a part of a header. This is also required for streams that are over.
func (c *Conn) decode(fragment []byte, last bool) error {
	b := &c.block
	const frameHeader = 9
	if b.coded += frameHeader + len(fragment); b.coded > maxBlock {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	if _, err := c.dec.Write(fragment); err != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	if !last {
		return nil
	}
	if err := c.dec.Close(); err != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	s := b.stream
	b.stream = nil
	interim := b.status >= 100 && b.status < 200
	switch {
	case s == nil:
	case b.bad, s.header && (!b.end || b.status != 0), !s.header && b.status == 0, interim && b.end:
		c.abort(s, http2.ErrCodeProtocol, errMalformed)
	case interim:
		s.resp.Header = s.resp.Header[:0]
		if s.interim++; s.interim > maxInterim {
			c.abort(s, http2.ErrCodeEnhanceYourCalm, errMalformed)
		}
	default:
		if !s.header {
			s.header, s.resp.Status = true, b.status
		}
		if b.end {
			c.answered(s)
		}
	}
	return nil
}

// field is called by the decoder for each field.
func (c *Conn) field(f Field) {
	b := &c.block
	if b.stream == nil || b.bad {
		return
	}
	if b.listed += int(f.Size()); b.listed > maxHeaderOut {
		b.bad = true
		return
	}
	if strings.HasPrefix(f.Name, ":") {
		status, ok := status(f.Value)
		b.bad = f.Name != ":status" || b.regular || b.status != 0 || !ok
		b.status = status
		return
	}
	b.regular = true
	if !httpguts.ValidHeaderFieldValue(f.Value) || !validName(f.Name) {
		b.bad = true
		return
	}
	if !b.stream.header { // trailers are not used
		b.stream.resp.Header = append(b.stream.resp.Header, f)
	}
}

func validName(s string) bool {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			return false
		}
	}
	return httpguts.ValidHeaderFieldName(s)
}

func status(s string) (int, bool) {
	if len(s) != 3 || s[0] < '1' || s[0] > '9' || s[1] < '0' || s[1] > '9' || s[2] < '0' || s[2] > '9' {
		return 0, false
	}
	return int(s[0]-'0')*100 + int(s[1]-'0')*10 + int(s[2]-'0'), true
}

func (c *Conn) data(s *stream, f *http2.DataFrame) error {
	n := int(f.Header().Length) // with padding
	if c.unacked += n; c.unacked > streamWindow {
		return http2.ConnectionError(http2.ErrCodeFlowControl)
	}
	if c.unacked > streamWindow/4 {
		_ = c.fr.WriteWindowUpdate(0, uint32(c.unacked)) // into memory
		c.unacked = 0
	}
	if s == nil {
		return nil // the stream is over
	}
	if !s.header {
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeProtocol}
	}
	if s.received += n; s.received > streamWindow {
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeFlowControl}
	}
	d := f.Data()
	keep := min(len(d), c.MaxBody-len(s.resp.Body))
	s.resp.Body = append(s.resp.Body, d[:keep]...)
	switch {
	case f.StreamEnded():
		c.answered(s)
	case keep < len(d):
		c.abort(s, http2.ErrCodeCancel, nil) // the rest is not needed
	}
	return nil
}

// answered completes a stream that the server has ended.
func (c *Conn) answered(s *stream) {
	if len(s.body) > 0 { // it did not wait for the whole request
		c.abort(s, http2.ErrCodeNo, nil)
		return
	}
	c.end(s, nil)
}
