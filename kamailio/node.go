// Package kamailio signals a Kamailio that runs sipwake.cfg, by JSON-RPC 2.0 over HTTP
// to its xhttp module. The script is in the folder cfg.
package kamailio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/node"
	"github.com/sipwake/sipwake/internal/upper"
	"github.com/sipwake/sipwake/internal/wake"
)

var errForbidden = fmt.Errorf("%w: compare secret_file with the node's SIPWAKE_SECRET", wake.ErrForbidden)

// Kind returns the node.Kind of a Kamailio.
func Kind() node.Kind {
	return node.Kind{
		Path: "/sipwake", Example: "http://192.0.2.1:5060",
		SecretFile: "must be set: the file with the node's SIPWAKE_SECRET",
		Forbidden:  errForbidden,
		Idle:       90 * time.Second, // well below Kamailio's tcp_connection_lifetime
	}
}

// Node is one Kamailio. Safe for concurrent use.
type Node struct{ *node.Client }

var _ wake.Node = Node{}

// New returns the node with that ID; see node.New. Edges are the SIP URIs through which
// it reaches phones that registered at other nodes, by node ID. A node without an edge
// shares its registrations.
func New(id string, cfg node.Config, edges map[string]string, log *slog.Logger) (Node, error) {
	c, err := node.New(id, Kind(), cfg, edges, log)
	return Node{c}, err
}

type wakeParams struct {
	Call    string `json:"call"`
	Contact string `json:"contact"`
	CallID  string `json:"call_id"`
	CSeq    uint32 `json:"cseq"`
	Source  string `json:"source"`
	Path    string `json:"path,omitempty"`
	Force   int    `json:"force,omitempty"`
}

// Wake implements wake.Node.
func (n Node) Wake(ctx context.Context, w wake.Wake, r wake.Registration, force bool) (wake.Signal, error) {
	p := wakeParams{Call: w.Call, Contact: r.Contact, CallID: r.CallID, CSeq: r.CSeq, Source: r.Source}
	if r.Node != w.Node {
		p.Path = path(n.Edges[r.Node], r.Source)
	}
	if force {
		p.Force = 1
	}
	return n.signal(ctx, w, "wake", p, wake.SignalAdded, wake.SignalDuplicate, wake.SignalUnsent, wake.SignalGone, wake.SignalNoContact)
}

var plainFlow = regexp.MustCompile(`^(udp|tcp|tls|sctp|wss?):([0-9.]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})$`)

// path returns the Path (RFC 3327) to a phone's flow through the node where the phone is
// connected; empty if that node has no SIP URI.
func path(edge, flow string) string {
	f := plainFlow.FindStringSubmatch(flow)
	if edge == "" || f == nil {
		return ""
	}
	transport := strings.TrimSuffix(f[1], "s") // in SIP, a wss connection is ws
	if f[1] == "tls" {
		transport = f[1]
	}
	return fmt.Sprintf("<%s;lr;received=sip:%s:%s%%3Btransport%%3D%s>", edge, f[2], f[3], transport)
}

type alertParams struct {
	Call string `json:"call"`
	Code int    `json:"code"`
	Text string `json:"text"`
	Tag  string `json:"tag"`
}

// Alert implements wake.Node.
func (n Node) Alert(ctx context.Context, w wake.Wake, code int, text string) (wake.Signal, error) {
	return n.signal(ctx, w, "alert", alertParams{w.Call, code, text, node.AlertTag(w)}, wake.SignalOK, wake.SignalDuplicate, wake.SignalGone)
}

type overParams struct {
	wakeParams
	AOR   string `json:"aor"`
	From  string `json:"from"` // value of the From header, without a tag
	To    string `json:"to"`
	ID    string `json:"id"`    // Call-ID of the call
	Cause int    `json:"cause"` // in the CANCEL's Reason; 0: no Reason
}

// TellOver implements wake.Node.
func (n Node) TellOver(ctx context.Context, w wake.Wake, reason wake.EndReason, r wake.Registration, force bool) (wake.Signal, error) {
	p := overParams{AOR: w.AOR, ID: w.CallID, From: node.From(w), To: node.To(w), Cause: node.Cause(reason),
		wakeParams: wakeParams{Call: "0-0", Contact: r.Contact, CallID: r.CallID, CSeq: r.CSeq, Source: r.Source}}
	if r.Node == w.Node { // this node knows whether the device was rung
		p.Call = w.Call
	}
	if force {
		p.Force = 1
	}
	return n.signal(ctx, w, "over", p, wake.SignalTold, wake.SignalDuplicate, wake.SignalUnsent, wake.SignalNoContact)
}

type giveUpParams struct {
	Call string `json:"call"`
}

// GiveUp implements wake.Node.
func (n Node) GiveUp(ctx context.Context, w wake.Wake) (wake.Signal, error) {
	return n.signal(ctx, w, "give_up", giveUpParams{w.Call}, wake.SignalOK, wake.SignalGone, wake.SignalBusy)
}

func (n Node) signal(ctx context.Context, w wake.Wake, method string, params any, answers ...wake.Signal) (wake.Signal, error) {
	ctx, cancel := n.Bound(ctx)
	defer cancel()
	var res struct {
		Status wake.Signal `json:"status"`
	}
	err := n.Call(ctx, method, params, &res)
	if e := (*node.Error)(nil); errors.As(err, &e) && e.Code == noSuchMethod && (method == "alert" || method == "over") {
		return n.Signalled(ctx, w, method, wake.SignalGone, nil) // an older sipwake.cfg
	}
	if err == nil && !slices.Contains(answers, res.Status) {
		err = fmt.Errorf("it answered with the unknown status %.40q", string(res.Status))
	}
	return n.Signalled(ctx, w, method, res.Status, err)
}

var _ upper.Node = Node{}

// RegisterUpper implements upper.Node, for a node that runs gateway.cfg.
func (n Node) RegisterUpper(ctx context.Context, r upper.Request) error {
	ctx, cancel := n.Bound(ctx)
	defer cancel()
	var res struct {
		Status string `json:"status"`
	}
	err := n.Call(ctx, "upper.register", r, &res)
	said := (*node.Error)(nil)
	switch {
	case err == nil && res.Status == "refused", errors.As(err, &said) && said.Code == noSuchMethod:
		err = upper.ErrRefused
	case err == nil && res.Status != "sent":
		err = fmt.Errorf("it could not send the REGISTER: %.40q", res.Status)
	}
	if err != nil {
		return fmt.Errorf("cannot register a user through node %q: %w", n.ID, err)
	}
	return nil
}

// noSuchMethod is the JSON-RPC 2.0 error for an unknown method.
const noSuchMethod = -32601

// Probe implements wake.Node. The script does not know the method, and answers so if the
// secret is right.
func (n Node) Probe(ctx context.Context) error {
	ctx, cancel := n.Bound(ctx)
	defer cancel()
	err := n.Ask(ctx, "probe", giveUpParams{"probe"}, nil)
	switch e := (*node.Error)(nil); {
	case err == nil:
		return fmt.Errorf("%w, not sipwake.cfg", node.ErrOther)
	case !errors.As(err, &e):
		return err
	case e.Code != noSuchMethod:
		return fmt.Errorf("%w, not sipwake.cfg: %w", node.ErrOther, err)
	}
	return nil
}
