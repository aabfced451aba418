//go:build !race

package h2

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
)

// TestAllocations holds what a request costs on a connection that is open.
func TestAllocations(t *testing.T) {
	client, server := pipe(t)
	go answerAll(server)
	c, err := New(t.Context(), client, testConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := req("payload")
	request.Literal = NewLiteral("authorization", "bearer abc")
	var resp Response
	n := testing.AllocsPerRun(500, func() {
		resp = Response{Header: resp.Header[:0], Body: resp.Body[:0]}
		if err := c.Do(t.Context(), request, &resp); err != nil || resp.Status != 200 {
			t.Fatal(err, resp.Status)
		}
	})
	if most := 3.0; n > most {
		t.Errorf("%v allocations a request, %v are allowed", n, most)
	}
}

// answerAll answers each request with 200 and allocates nothing.
func answerAll(nc net.Conn) {
	preface := make([]byte, len(http2.ClientPreface))
	_, _ = io.ReadFull(nc, preface)
	_ = http2.NewFramer(nc, nil).WriteSettings()
	var head [9]byte
	body := make([]byte, 16<<10)
	answer := []byte{0, 0, 1, byte(http2.FrameHeaders), byte(http2.FlagHeadersEndHeaders | http2.FlagHeadersEndStream), 0, 0, 0, 0, 0x88} // :status 200
	for {
		if _, err := io.ReadFull(nc, head[:]); err != nil {
			return
		}
		n := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		if _, err := io.ReadFull(nc, body[:n]); err != nil {
			return
		}
		if http2.FrameType(head[3]) == http2.FrameData && http2.Flags(head[4]).Has(http2.FlagDataEndStream) {
			binary.BigEndian.PutUint32(answer[5:], binary.BigEndian.Uint32(head[5:]))
			if _, err := nc.Write(answer); err != nil {
				return
			}
		}
	}
}
