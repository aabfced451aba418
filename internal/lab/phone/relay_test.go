package phone_test

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// relay is the least that phones need to call each other: a registrar and a
// stateless, forking, record-routing proxy on one UDP and TCP port. It works on
// text, so that it passes on whatever the phones send.
type relay struct {
	addr string
	udp  *net.UDPConn
	tcp  net.Listener
	work sync.WaitGroup

	mu        sync.Mutex
	flows     map[string]func([]byte) // "UDP 127.0.0.1:5060"
	conns     []net.Conn
	bindings  map[string][]binding // by user
	registers []string
	drop      func(text string) bool
	challenge func(text string) string // the answer to a request that is challenged, else empty
}

type binding struct{ contact, flow string }

func newRelay(t *testing.T) *relay {
	t.Helper()
	r := &relay{flows: map[string]func([]byte){}, bindings: map[string][]binding{}}
	var err error
	for range 20 { // the same port for both
		if r.tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			continue
		}
		r.addr = r.tcp.Addr().String()
		if r.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(r.tcp.Addr().(*net.TCPAddr).AddrPort())); err == nil {
			break
		}
		_ = r.tcp.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	r.work.Add(2)
	go r.serveUDP()
	go r.serveTCP()
	t.Cleanup(func() {
		_ = r.udp.Close()
		_ = r.tcp.Close()
		r.cutAll()
		r.work.Wait()
	})
	return r
}

func (r *relay) serveUDP() {
	defer r.work.Done()
	buf := make([]byte, 65536)
	for {
		n, from, err := r.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		flow := "UDP " + from.String()
		r.mu.Lock()
		r.flows[flow] = func(b []byte) { _, _ = r.udp.WriteToUDPAddrPort(b, from) }
		r.mu.Unlock()
		r.hear(string(buf[:n]), flow)
	}
}

func (r *relay) serveTCP() {
	defer r.work.Done()
	for {
		conn, err := r.tcp.Accept()
		if err != nil {
			return
		}
		flow := "TCP " + conn.RemoteAddr().String()
		r.mu.Lock()
		r.flows[flow] = func(b []byte) { _, _ = conn.Write(b) }
		r.conns = append(r.conns, conn)
		r.mu.Unlock()
		r.work.Add(1)
		go func() {
			defer r.work.Done()
			r.readTCP(conn, flow)
		}()
	}
}

var lengthHeader = regexp.MustCompile(`(?i)\r\nContent-Length: *(\d+)\r\n`)

func (r *relay) readTCP(conn net.Conn, flow string) {
	var buf []byte
	chunk := make([]byte, 4096)
	for {
		n, err := conn.Read(chunk)
		if err != nil {
			r.mu.Lock()
			delete(r.flows, flow)
			r.mu.Unlock()
			return
		}
		buf = append(buf, chunk[:n]...)
		for {
			head := bytes.Index(buf, []byte("\r\n\r\n"))
			if head < 0 {
				break
			}
			length := 0
			if m := lengthHeader.FindSubmatch(buf[:head+2]); m != nil {
				_, _ = fmt.Sscan(string(m[1]), &length)
			}
			if len(buf) < head+4+length {
				break
			}
			r.hear(string(buf[:head+4+length]), flow)
			buf = buf[head+4+length:]
		}
	}
}

// cutAll closes every TCP connection.
func (r *relay) cutAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
}

// header returns the values of a header in a message's text.
func header(text, name string) []string {
	head, _, _ := strings.Cut(text, "\r\n\r\n")
	var out []string
	for _, line := range strings.Split(head, "\r\n")[1:] {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(k, name) {
			out = append(out, strings.TrimSpace(v))
		}
	}
	return out
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

func (r *relay) hear(text, flow string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.drop != nil && r.drop(text) {
		return
	}
	start, rest, _ := strings.Cut(text, "\r\n")
	words := strings.SplitN(start, " ", 3)
	challenge := ""
	if r.challenge != nil {
		challenge = r.challenge(text)
	}
	switch {
	case challenge != "":
		r.sendLocked(flow, challenge)
	case len(words) != 3 || !strings.Contains(rest, "\r\n\r\n"):
		r.sendLocked(flow, "SIP/2.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
	case words[0] == "SIP/2.0":
		r.answerLocked(text)
	case words[0] == "REGISTER":
		r.registerLocked(text, flow)
	default:
		r.forwardLocked(words, rest, flow)
	}
}

func (r *relay) sendLocked(flow, text string) {
	if send := r.flows[flow]; send != nil {
		send([]byte(text))
	}
}

// answerLocked passes a response back to where our Via says.
func (r *relay) answerLocked(text string) {
	via := first(header(text, "Via"))
	_, flow, _ := strings.Cut(via, ";flow=")
	r.sendLocked(strings.Replace(flow, "_", " ", 1), strings.Replace(text, "Via: "+via+"\r\n", "", 1))
}

func reply(text, status, extra string) string {
	var b strings.Builder
	b.WriteString("SIP/2.0 " + status + "\r\n")
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		for _, v := range header(text, name) {
			b.WriteString(name + ": " + v + "\r\n")
		}
	}
	return b.String() + extra + "Content-Length: 0\r\n\r\n"
}

var userOf = regexp.MustCompile(`sip:([^@]+)@`)

func (r *relay) registerLocked(text, flow string) {
	r.registers = append(r.registers, text)
	user := userOf.FindStringSubmatch(first(header(text, "To")))[1]
	contact := first(header(text, "Contact"))
	uri := contact[strings.Index(contact, "<")+1 : strings.Index(contact, ">")]
	list := slices.DeleteFunc(r.bindings[user], func(b binding) bool { return b.contact == uri || b.flow == flow })
	if first(header(text, "Expires")) != "0" {
		list = append(list, binding{uri, flow})
	}
	r.bindings[user] = list
	r.sendLocked(flow, reply(text, "200 OK", "Feature-Caps: *;+sip.pns=\"apns\"\r\nContact: "+contact+";expires=600\r\n"))
}

// lose drops the messages for which drop is true, on their way in.
func (r *relay) lose(drop func(text string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop = drop
}

func (r *relay) seenRegisters() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.registers)
}

var hostPort = regexp.MustCompile(`@([0-9.]+:\d+)`)

func (r *relay) forwardLocked(words []string, rest, flow string) {
	text := strings.Join(words, " ") + "\r\n" + rest
	var to []binding
	if route := first(header(text, "Route")); route != "" {
		rest = strings.Replace(rest, "Route: "+route+"\r\n", "", 1)
		at := hostPort.FindStringSubmatch(words[1])[1]
		for _, protocol := range []string{"UDP ", "TCP "} {
			if r.flows[protocol+at] != nil {
				to = append(to, binding{words[1], protocol + at})
				break
			}
		}
	} else if user := userOf.FindStringSubmatch(words[1]); user != nil {
		to = r.bindings[user[1]]
	}
	if len(to) == 0 && words[0] != "ACK" {
		r.sendLocked(flow, reply(text, "480 Temporarily Unavailable", ""))
	}
	for i, b := range to {
		hash := fnv.New64()
		_, branch, _ := strings.Cut(first(header(text, "Via")), ";branch=")
		fmt.Fprint(hash, branch, i)
		out := words[0] + " " + b.contact + " SIP/2.0\r\n" +
			fmt.Sprintf("Via: SIP/2.0/%s %s;branch=z9hG4bK%x;flow=%s\r\n", b.flow[:3], r.addr, hash.Sum(nil), strings.Replace(flow, " ", "_", 1))
		if words[0] == "INVITE" {
			out += "Record-Route: <sip:" + r.addr + ";lr;a=1>, <sip:" + r.addr + ";lr;a=2>\r\n"
		}
		r.sendLocked(b.flow, out+rest)
	}
}
