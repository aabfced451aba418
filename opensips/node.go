// Package opensips signals an OpenSIPS that runs sipwake.cfg, by JSON-RPC 2.0 over HTTP
// to its management interface MI. The script is in the folder cfg.
package opensips

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/node"
	"github.com/sipwake/sipwake/internal/wake"
)

var errForbidden = fmt.Errorf("%w: compare secret_file with what the reverse proxy in front of MI expects", wake.ErrForbidden)

// Kind returns the node.Kind of an OpenSIPS.
func Kind() node.Kind {
	return node.Kind{Path: "/mi", Example: "http://127.0.0.1:8888", Forbidden: errForbidden, Idle: 30 * time.Second}
}

// Node is one OpenSIPS. Safe for concurrent use.
type Node struct{ *node.Client }

var _ wake.Node = Node{}

// New returns the node with that ID; see node.New. Edges are the SIP URIs through which
// it reaches the other nodes, by node ID. Nodes without a SIP URI are missing.
func New(id string, cfg node.Config, edges map[string]string, log *slog.Logger) (Node, error) {
	c, err := node.New(id, Kind(), cfg, edges, log)
	return Node{c}, err
}

// callKey matches the name that sipwake.cfg gives a held request: the ID of its
// transaction, which has no special characters for OpenSIPS' event filter.
var callKey = regexp.MustCompile(`^[0-9a-f]{1,16}\.[0-9a-f]{1,16}$`)

// wakeEvent has the parameters of the event that adds a phone: the six of a branch, and
// those of sipwake.cfg. OpenSIPS distinguishes numbers from strings.
type wakeEvent struct {
	Call     string `json:"call"`
	Op       string `json:"op"`
	Attr     string `json:"attr"`
	URI      string `json:"uri"`
	Received string `json:"received"`
	Path     string `json:"path"`
	QVal     int    `json:"qval"`
	Socket   string `json:"socket"`
	BFlags   int    `json:"bflags"`
}

// Wake implements wake.Node. The event has all that OpenSIPS needs to reach the phone,
// so OpenSIPS need not have the registration: the answer is never NoContact, and force
// changes nothing.
func (n Node) Wake(ctx context.Context, w wake.Wake, r wake.Registration, _ bool) (wake.Signal, error) {
	ctx, cancel := n.Bound(ctx)
	defer cancel()
	if !callKey.MatchString(w.Call) {
		return n.Signalled(ctx, w, "wake", wake.SignalGone, nil) // not a request of sipwake.cfg
	}
	e, err := n.event(w, r)
	if err != nil {
		return n.Signalled(ctx, w, "wake", "", err)
	}
	e.Call, e.Op = w.Call, rand.Text()
	params, err := json.Marshal(e)
	if err == nil {
		err = n.Call(ctx, "raise_event", map[string]string{"event": "E_SIPWAKE_WAKE", "params": string(params)}, nil)
	}
	if err != nil {
		return n.Signalled(ctx, w, "wake", "", err)
	}
	s, err := n.outcome(ctx, e)
	return n.Signalled(ctx, w, "wake", s, err)
}

// event returns the event that tells the node of w how to reach the device of r.
func (n Node) event(w wake.Wake, r wake.Registration) (wakeEvent, error) {
	transport, address, ok := strings.Cut(r.Source, ":")
	if !ok || strings.ContainsAny(r.Source, ";?<>, \t\r\n\"") || strings.ContainsAny(r.Contact, "<> \t\r\n\"") {
		return wakeEvent{}, errors.New("the registration's flow or contact is not a plain one")
	}
	flow := "sip:" + address + ";transport=" + transport
	e := wakeEvent{URI: withoutPush(r.Contact), QVal: -1, Received: flow,
		Attr: "1 " + r.Source + " 0 " + r.CallID}
	if r.Node != w.Node {
		edge := n.Edges[r.Node]
		if edge == "" {
			return wakeEvent{}, fmt.Errorf("the phone is at node %q, whose sip is not set", r.Node)
		}
		e.Path = "<" + edge + ";lr;received=" + strings.NewReplacer(";", "%3B", "=", "%3D").Replace(flow) + ">"
		e.Received = ""
	}
	return e, nil
}

var pushParam = regexp.MustCompile(`(?i);(pn|push-token)-[a-z-]+(=[^;?>, ]*)?`)

func withoutPush(uri string) string { return pushParam.ReplaceAllString(uri, "") }

const (
	firstPause = time.Millisecond // between reads of the outcome; it doubles
	maxPause   = 50 * time.Millisecond
)

// outcome waits until sipwake.cfg has written the outcome of the event: MI itself only
// says that the event was raised. If the request is no longer held, nothing receives the
// event.
func (n Node) outcome(ctx context.Context, e wakeEvent) (wake.Signal, error) {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		s, err := n.fetch(ctx, "sipwake_op_"+e.Op)
		switch {
		case err != nil:
			return "", err
		case s == string(wake.SignalAdded), s == string(wake.SignalDuplicate), s == string(wake.SignalGone), s == string(wake.SignalUnsent):
			return wake.Signal(s), nil
		case s != "":
			return "", fmt.Errorf("it wrote the unknown outcome %.40q", s)
		}
		held, err := n.fetch(ctx, "sipwake_held_"+e.Call)
		if err != nil {
			return "", err
		}
		if held == "" {
			return wake.SignalGone, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return "", fmt.Errorf("it took the signal but wrote no outcome: %w", ctx.Err())
		}
	}
}

// fetch returns a value that sipwake.cfg has written to the cache, or "".
func (n Node) fetch(ctx context.Context, key string) (string, error) {
	var res struct {
		Value string `json:"value"`
	}
	err := n.Call(ctx, "cache_fetch", fetchParams{"local", key}, &res)
	if e := (*node.Error)(nil); errors.As(err, &e) && e.Code == noValue {
		return "", nil
	}
	return res.Value, err
}

type fetchParams struct {
	System string `json:"system"`
	Attr   string `json:"attr"`
}

// noValue is MI's error code for a key that is not in the cache.
const noValue = 400

type replyParams struct {
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	TransID string `json:"trans_id"`
	ToTag   string `json:"to_tag"`
}

// Alert implements wake.Node.
func (n Node) Alert(ctx context.Context, w wake.Wake, code int, text string) (wake.Signal, error) {
	ctx, cancel := n.Bound(ctx)
	defer cancel()
	if !callKey.MatchString(w.Call) {
		return n.Signalled(ctx, w, "alert", wake.SignalGone, nil)
	}
	held, err := n.fetch(ctx, "sipwake_held_"+w.Call)
	if err != nil || held == "" {
		return n.Signalled(ctx, w, "alert", wake.SignalGone, err)
	}
	rings, err := n.fetch(ctx, "sipwake_rings_"+w.Call)
	if err != nil || rings != "" {
		return n.Signalled(ctx, w, "alert", wake.SignalDuplicate, err)
	}
	err = n.Call(ctx, "t_reply", replyParams{code, text, w.Call, node.AlertTag(w)}, nil)
	if e := (*node.Error)(nil); errors.As(err, &e) && (e.Code == 404 || e.Code == 500) {
		return n.Signalled(ctx, w, "alert", wake.SignalGone, nil)
	}
	return n.Signalled(ctx, w, "alert", wake.SignalOK, err)
}

// GiveUp implements wake.Node: it ends the parked leg of the request.
func (n Node) GiveUp(ctx context.Context, w wake.Wake) (wake.Signal, error) {
	ctx, cancel := n.Bound(ctx)
	defer cancel()
	if !callKey.MatchString(w.Call) {
		return n.Signalled(ctx, w, "give_up", wake.SignalGone, nil)
	}
	leg, err := n.fetch(ctx, "sipwake_leg_"+w.Call)
	if err != nil || leg == "" {
		return n.Signalled(ctx, w, "give_up", wake.SignalGone, err)
	}
	err = n.Call(ctx, "t_reply", replyParams{599, "Nobody To Wait For", leg, "sipwake"}, nil)
	if e := (*node.Error)(nil); errors.As(err, &e) && (e.Code == 404 || e.Code == 500) {
		return n.Signalled(ctx, w, "give_up", wake.SignalGone, nil) // the call is over or about to be
	}
	return n.Signalled(ctx, w, "give_up", wake.SignalOK, err)
}

// Probe implements wake.Node. It reads a key that does not exist, in the way that signals
// read their outcome. So it tests both MI and the script's cache.
func (n Node) Probe(ctx context.Context) error {
	ctx, cancel := n.Bound(ctx)
	defer cancel()
	err := n.Ask(ctx, "cache_fetch", fetchParams{"local", "sipwake_probe"}, nil)
	switch e := (*node.Error)(nil); {
	case err == nil:
		return fmt.Errorf("%w, not an OpenSIPS with sipwake.cfg", node.ErrOther)
	case !errors.As(err, &e):
		return err
	case e.Code != noValue:
		return fmt.Errorf("%w, not an OpenSIPS with sipwake.cfg: %w", node.ErrOther, err)
	}
	return nil
}
