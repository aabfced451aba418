package opensips

import (
	"context"
	"crypto/rand"
	"fmt"
	"regexp"
	"strings"

	"github.com/sipwake/sipwake/internal/node"
	"github.com/sipwake/sipwake/internal/wake"
)

// uacParams are those of MI t_uac_dlg, which sends a request and answers when the last
// answer to it has come.
type uacParams struct {
	Method  string `json:"method"`
	URI     string `json:"ruri"`
	NextHop string `json:"next_hop"`
	Socket  string `json:"socket"`
	Headers string `json:"headers"`
}

// uacResult is what came of it: "487 Request Terminated", and the headers of the answer.
type uacResult struct {
	Status  string
	Message string
}

// TellOver implements wake.Node. The INVITE goes to the parking socket, where sipwake.cfg
// sends it on to the phone and cancels it as soon as the phone answers. It returns when
// the phone has given its last answer.
func (n Node) TellOver(ctx context.Context, w wake.Wake, reason wake.EndReason, r wake.Registration, _ bool) (wake.Signal, error) {
	s, err := n.tellOver(ctx, w, reason, r)
	return n.Signalled(ctx, w, "over", s, err)
}

func (n Node) tellOver(ctx context.Context, w wake.Wake, reason wake.EndReason, r wake.Registration) (wake.Signal, error) {
	call := "-"
	if r.Node == w.Node && callKey.MatchString(w.Call) { // it knows whether the phone was rung
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
	p := uacParams{Method: "INVITE", URI: "sip:" + op + "@" + park, NextHop: "sip:" + park, Socket: "udp:" + park}
	from := node.From(w) + ";tag=" + op
	cause := ""
	if node.Cause(reason) != 0 {
		cause = "X-Sipwake-Cause: 200\r\n" // the one that OpenSIPS knows
	}
	p.Headers = "From: " + from + "\r\nTo: " + node.To(w) + "\r\nCall-ID: " + w.CallID + "\r\nCSeq: 1 INVITE\r\n" +
		"Contact: <" + p.URI + ">\r\nMax-Forwards: 70\r\nX-Sipwake-Late: " + call + "\r\n" + cause +
		"X-Sipwake-Uri: " + e.URI + "\r\nX-Sipwake-Flow: " + e.Received + "\r\nX-Sipwake-Attr: " + e.Attr + "\r\n\r\n"
	var res uacResult
	if err := n.Call(ctx, "t_uac_dlg", p, &res); err != nil {
		return "", err
	}
	switch code, _, _ := strings.Cut(res.Status, " "); code {
	case "482":
		return wake.SignalDuplicate, nil
	case "408", "477", "478", "500", "503", "599":
		return wake.SignalUnsent, nil
	case "200", "202":
		// It was answered in that moment.
		if m := toHeader.FindStringSubmatch(res.Message); m != nil {
			p.Method = "BYE"
			p.Headers = "From: " + from + "\r\nTo: " + m[1] + "\r\nCall-ID: " + w.CallID + "\r\nCSeq: 2 BYE\r\nMax-Forwards: 70\r\n\r\n"
			if err := n.Call(ctx, "t_uac_dlg", p, &res); err != nil {
				return "", fmt.Errorf("it cannot end a call that is over: %w", err)
			}
		}
	}
	return wake.SignalTold, nil
}

var toHeader = regexp.MustCompile(`(?im)^(?:To|t)[ \t]*:[ \t]*([^\r\n]+)\r?$`)

// parkAddress is host:port.
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
