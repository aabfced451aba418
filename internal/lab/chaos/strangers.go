package chaos

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"strings"
	"sync"
)

// strangers makes thousands of calls from one UDP socket. It keeps no state of its calls.
// Safe for concurrent use.
type strangers struct {
	socket *net.UDPConn
	work   sync.WaitGroup
}

func newStrangers() (*strangers, error) {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("cannot listen as callers: %w", err)
	}
	s := &strangers{socket: socket}
	s.work.Go(s.serve)
	return s, nil
}

func (s *strangers) close() {
	_ = s.socket.Close()
	s.work.Wait()
}

// invite sends one INVITE to the node, once. Each has another caller.
func (s *strangers) invite(n *node, user, callID string) error {
	to, err := net.ResolveUDPAddr("udp4", n.address)
	if err != nil {
		return err
	}
	_, err = s.socket.WriteTo(fmt.Appendf(nil, "INVITE sip:%[1]s@%[2]s SIP/2.0\r\n"+
		"Via: SIP/2.0/UDP %[3]s;branch=z9hG4bK%[4]s;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:of-%[4]s@%[2]s>;tag=%[4]s\r\nTo: <sip:%[1]s@%[2]s>\r\nCall-ID: %[4]s\r\nCSeq: 1 INVITE\r\n"+
		"Contact: <sip:of-%[4]s@%[3]s>\r\nContent-Length: 0\r\n\r\n",
		user, domain, s.socket.LocalAddr(), callID), to)
	return err
}

// serve acknowledges final answers, as RFC 3261 section 17.1.1.3 requires.
func (s *strangers) serve() {
	b := make([]byte, 1<<16)
	for {
		n, from, err := s.socket.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || !bytes.HasPrefix(b[:n], []byte("SIP/2.0 ")) || b[8] < '3' {
			continue
		}
		_, head, _ := bytes.Cut(b[:n], []byte("\r\n"))
		h, _ := textproto.NewReader(bufio.NewReader(bytes.NewReader(head))).ReadMIMEHeader() // what is missing ends in no ACK
		_, uri, _ := strings.Cut(h.Get("To"), "<")
		uri, _, _ = strings.Cut(uri, ">")
		_, _ = s.socket.WriteTo(fmt.Appendf(nil, "ACK %s SIP/2.0\r\nVia: %s\r\nMax-Forwards: 70\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\n"+
			"CSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n", uri, h.Get("Via"), h.Get("From"), h.Get("To"), h.Get("Call-ID")), from) // it asks again
	}
}
