package homer

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/trace"
)

// Exporter sends one packet for each event.
type Exporter struct {
	cfg   Config
	key   secret.Text
	where Where

	conn  net.Conn // nil before the first packet and after a failure
	nodes map[string]node
	buf   []byte
}

var _ trace.Exporter = (*Exporter)(nil)

// Where gives the addresses between which events appear in the call flow.
type Where struct {
	// RPC is the address on which sipwake listens for the proxies.
	RPC string
	// Node returns host:port of a SIP node; empty if it is no longer configured.
	Node func(id string) string
}

// node is the address of a SIP node, from the last lookup.
type node struct {
	named string
	addr  netip.AddrPort
	found time.Time
}

// New returns an Exporter. It reads the key file, but does not connect.
func New(cfg Config, w Where) (*Exporter, error) {
	key, err := cfg.authKey()
	if err != nil {
		return nil, fmt.Errorf("auth_key_file: %w", err)
	}
	return &Exporter{cfg: cfg, key: key, where: w, nodes: make(map[string]node)}, nil
}

// Name returns "homer".
func (e *Exporter) Name() string { return "homer" }

// Close closes the connection.
func (e *Exporter) Close() error {
	if e.conn == nil {
		return nil
	}
	err := e.conn.Close()
	e.conn = nil
	return err
}

// Export sends the events of the parts. Over UDP a refused datagram is often noticed
// only with the next one, or never.
func (e *Exporter) Export(ctx context.Context, parts []trace.Part) (lost int, err error) {
	for i := range parts {
		if failed := e.exportPart(ctx, &parts[i]); failed != nil {
			lost++
			err = failed
		}
	}
	return lost, err
}

func (e *Exporter) exportPart(ctx context.Context, p *trace.Part) (err error) {
	if err := e.connect(ctx); err != nil {
		return err
	}
	here, there := e.here(), e.node(ctx, p.Node)
	for i := range p.Events {
		v := &p.Events[i]
		source, target := here, here
		switch v.Name {
		case trace.Held, trace.Awake, trace.Answering, trace.Registered, trace.Ended:
			source = there
		case trace.Signalled, trace.Lost, trace.GaveUp:
			target = there
		}
		err = first(err, e.send(ctx, p, v.At, source, target, entryOf(v)))
	}
	if p.Verdict != "" {
		err = first(err, e.send(ctx, p, p.Last(), here, here, &entry{Event: "verdict", Message: "sipwake: " + p.Verdict}))
	}
	return err
}

func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// entry is the payload of a packet.
type entry struct {
	Message  string `json:"message"`
	Event    string `json:"event"`
	CallID   string `json:"call_id"`
	User     string `json:"user"`
	Node     string `json:"node"`
	Device   string `json:"device,omitempty"`
	Detail   string `json:"detail,omitempty"`
	Provider string `json:"provider,omitempty"`
	App      string `json:"app,omitempty"`
	Kind     string `json:"kind,omitempty"`
	PushID   string `json:"push_id,omitempty"`
	Tries    int    `json:"tries,omitempty"`
	Code     int    `json:"code,omitempty"`
	AfterMS  int64  `json:"after_ms"` // since wake.start
	Outcome  string `json:"outcome,omitempty"`
	Reason   string `json:"reason,omitempty"`
	WakeID   string `json:"wake_id"`
	Instance string `json:"instance,omitempty"`
}

func entryOf(v *trace.Event) *entry {
	message := "sipwake: " + string(v.Name)
	if v.Detail != "" {
		message += ": " + v.Detail
	}
	return &entry{Message: message, Event: string(v.Name), Device: v.Device, Detail: v.Detail, Provider: v.Provider,
		App: v.App, Kind: v.Kind, PushID: v.ID, Tries: v.Tries, Code: v.Code}
}

// send sends one packet. It reconnects if the server has closed the connection.
func (e *Exporter) send(ctx context.Context, p *trace.Part, at time.Time, source, target netip.AddrPort, v *entry) error {
	v.CallID, v.User, v.Node, v.WakeID, v.Instance = p.CallID, p.AOR, p.Node, p.ID, p.Instance
	v.AfterMS = max(at.Sub(p.StartedAt), 0).Milliseconds()
	if v.Event == "verdict" {
		v.Outcome, v.Reason = p.Outcome, p.Reason
	}
	payload, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("cannot write packet: %w", err)
	}
	k := packet{source: source, target: target, at: at, node: e.cfg.Node, nodeName: e.cfg.NodeName, key: e.key.Reveal(),
		correlation: p.CallID, payload: payload}
	if e.buf = k.append(e.buf[:0]); len(e.buf) > maxPacket {
		return fmt.Errorf("cannot send packet of %d bytes", len(e.buf))
	}
	if err = e.write(ctx); err != nil && e.cfg.Transport == TCP {
		if err = e.connect(ctx); err == nil {
			err = e.write(ctx)
		}
	}
	return err
}

const writeTimeout = 2 * time.Second

func (e *Exporter) write(ctx context.Context) error {
	if e.conn == nil {
		return net.ErrClosed
	}
	until := time.Now().Add(writeTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(until) {
		until = d
	}
	_ = e.conn.SetWriteDeadline(until)
	_, err := e.conn.Write(e.buf)
	if err != nil && e.cfg.Transport == TCP { // half a packet may have been sent
		_ = e.Close()
	}
	return err
}

func (e *Exporter) connect(ctx context.Context) error {
	if e.conn != nil {
		return nil
	}
	d := net.Dialer{Timeout: writeTimeout}
	conn, err := d.DialContext(ctx, e.cfg.Transport, e.cfg.Address)
	if err != nil {
		return err
	}
	e.conn = conn
	return nil
}

// here returns the address of sipwake: that of the RPC listener. If RPC listens on
// every address, it is the local address of the connection with RPC's port.
func (e *Exporter) here() netip.AddrPort {
	rpc, _ := netip.ParseAddrPort(e.where.RPC)
	if rpc.IsValid() && !rpc.Addr().IsUnspecified() {
		return rpc
	}
	local, err := netip.ParseAddrPort(e.conn.LocalAddr().String())
	if err != nil {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), rpc.Port())
	}
	if rpc.Port() > 0 {
		return netip.AddrPortFrom(local.Addr().WithZone(""), rpc.Port())
	}
	return local
}

// lookAgain is how long the address of a node is cached.
const lookAgain = time.Minute

// node returns the address of a SIP node; that of sipwake if it is unknown.
func (e *Exporter) node(ctx context.Context, id string) netip.AddrPort {
	named := e.where.Node(id)
	n := e.nodes[id]
	if n.named == named && time.Since(n.found) < lookAgain {
		return n.addr
	}
	if len(e.nodes) > 1024 { // nodes of former configurations
		clear(e.nodes)
	}
	n = node{named: named, addr: e.here(), found: time.Now()}
	if host, port, err := net.SplitHostPort(named); err == nil {
		number, _ := net.LookupPort("tcp", port)
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		if found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host); err == nil && len(found) > 0 {
			n.addr = netip.AddrPortFrom(found[0].Unmap().WithZone(""), uint16(number))
		}
	}
	e.nodes[id] = n
	return n.addr
}
