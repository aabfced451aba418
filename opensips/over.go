package opensips

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/node"
	"github.com/sipwake/sipwake/internal/wake"
)

// overEvent has the parameters of the event that makes sipwake.cfg send a request: those of
// MI t_uac_dlg, and the name of the cache entry for the result.
type overEvent struct {
	Op      string `json:"op"`
	Method  string `json:"method"`
	URI     string `json:"ruri"`
	Headers string `json:"headers"`
}

// uacResult is its result: the status, such as "487 Request Terminated", and the headers
// of the answer.
type uacResult struct {
	Status  string
	Message string
}

// TellOver implements wake.Node. It sends the INVITE to the parking socket. There
// sipwake.cfg forwards it to the phone and cancels it as soon as the phone answers.
// TellOver returns after the phone's final answer.
func (n Node) TellOver(ctx context.Context, w wake.Wake, reason wake.EndReason, r wake.Registration, _ bool) (wake.Signal, error) {
	s, err := n.tellOver(ctx, w, reason, r)
	return n.Signalled(ctx, w, "over", s, err)
}

func (n Node) tellOver(ctx context.Context, w wake.Wake, reason wake.EndReason, r wake.Registration) (wake.Signal, error) {
	call := "-"
	if r.Node == w.Node && callKey.MatchString(w.Call) { // this node knows whether the phone was rung
		call = w.Call
	}
	w.Node = r.Node
	e, err := n.event(w, r)
	if err != nil {
		return "", err
	}
	park, err := n.park(ctx)
	if err != nil {
		return "", err
	}
	op := strings.ToLower(rand.Text())
	o := overEvent{Op: op, Method: "INVITE", URI: "sip:" + op + "@" + park}
	from := node.From(w) + ";tag=" + op
	cause := ""
	if node.Cause(reason) != 0 {
		cause = "X-Sipwake-Cause: 200\r\n" // the only cause that OpenSIPS supports
	}
	o.Headers = "From: " + from + "\r\nTo: " + node.To(w) + "\r\nCall-ID: " + w.CallID + "\r\nCSeq: 1 INVITE\r\n" +
		"Contact: <" + o.URI + ">\r\nMax-Forwards: 70\r\nX-Sipwake-Late: " + call + "\r\n" + cause +
		"X-Sipwake-Uri: " + e.URI + "\r\nX-Sipwake-Flow: " + e.Received + "\r\nX-Sipwake-Attr: " + e.Attr + "\r\n\r\n"
	if err := n.send(ctx, o); err != nil {
		return "", err
	}
	res, err := n.answer(ctx, op)
	if err != nil {
		return "", err
	}
	switch code, _, _ := strings.Cut(res.Status, " "); code {
	case "482":
		return wake.SignalDuplicate, nil
	case "408", "477", "478", "500", "503", "599":
		return wake.SignalUnsent, nil
	case "200", "202":
		// The phone answered before the CANCEL.
		if m := toHeader.FindStringSubmatch(res.Message); m != nil {
			o.Method = "BYE"
			o.Headers = "From: " + from + "\r\nTo: " + m[1] + "\r\nCall-ID: " + w.CallID + "\r\nCSeq: 2 BYE\r\nMax-Forwards: 70\r\n\r\n"
			if err := n.send(ctx, o); err != nil {
				return "", fmt.Errorf("it cannot hang up the phone of a call that is over: %w", err)
			}
		}
	}
	return wake.SignalTold, nil
}

// send makes the node send the request. MI's own t_uac_dlg would block MI until the phone's
// final answer.
func (n Node) send(ctx context.Context, o overEvent) error {
	ctx, cancel := n.Bound(ctx)
	defer cancel()
	params, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return n.Call(ctx, "raise_event", map[string]string{"event": "E_SIPWAKE_OVER", "params": string(params)}, nil)
}

// answer waits for the final answer to a request.
func (n Node) answer(ctx context.Context, op string) (res uacResult, err error) {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		note, err := n.fetch(ctx, "sipwake_told_"+op)
		if err != nil {
			return res, err
		}
		if note != "" {
			if err := json.Unmarshal([]byte(note), &res); err != nil {
				return res, fmt.Errorf("it could not send the request: %.80q", note)
			}
			return res, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return res, fmt.Errorf("it sent the request but wrote no answer: %w", ctx.Err())
		}
	}
}

var toHeader = regexp.MustCompile(`(?im)^(?:To|t)[ \t]*:[ \t]*([^\r\n]+)\r?$`)

// parkAddress matches host:port.
var parkAddress = regexp.MustCompile(`^([0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$`)

// park returns the address of the parking socket.
func (n Node) park(ctx context.Context) (string, error) {
	var res struct {
		VAR struct{ Value string }
	}
	if err := n.Call(ctx, "shv_get", map[string]string{"name": "sipwake_park"}, &res); err != nil {
		return "", err
	}
	if !parkAddress.MatchString(res.VAR.Value) {
		return "", fmt.Errorf("its sipwake_park is not host:port: %.40q", res.VAR.Value)
	}
	return res.VAR.Value, nil
}
