// Package kamailio signals a Kamailio that runs sipwake.cfg: JSON-RPC 2.0 over
// HTTP to its xhttp module. The script itself is in the folder cfg.
package kamailio

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sipwake/sipwake/secret"
	"github.com/sipwake/sipwake/wake"
)

// ErrForbidden says that the node has another secret than we.
var ErrForbidden = errors.New("it refused the secret: compare secret_file with the node's SIPWAKE_SECRET")

// maxAnswer bounds a node's answer in bytes; a real one has about 60.
const maxAnswer = 16 << 10

// Node is one Kamailio. Safe for concurrent use.
type Node struct {
	id      string
	url     string
	edges   map[string]string // SIP URIs of the nodes, by id
	timeout time.Duration
	client  *http.Client
	log     *slog.Logger

	Secret secret.Text // exported only so that fmt prints it as a secret
}

var _ wake.Node = (*Node)(nil)

// New returns the node with that id. Edges are the SIP URIs by which it reaches
// phones that registered at other nodes, by node id; a node that is not there
// shares its registrations. New reads the secret's file and does not connect
// before the first signal. Errors begin with the yaml name of the field
// that is wrong.
func New(id string, cfg Config, edges map[string]string, log *slog.Logger) (*Node, error) {
	cfg.SetDefaults()
	var problems []error
	cfg.Validate(func(field, problem string) { problems = append(problems, fmt.Errorf("%s: %s", field, problem)) })
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	s, err := cfg.readSecret()
	if err != nil {
		return nil, fmt.Errorf("secret_file: %w", err)
	}
	u, _ := parseURL(cfg.URL)
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	t.MaxConnsPerHost = cfg.Connections
	t.MaxIdleConnsPerHost = cfg.Connections
	t.MaxIdleConns = cfg.Connections
	t.IdleConnTimeout = 90 * time.Second // well below Kamailio's tcp_connection_lifetime
	return &Node{
		id: id, edges: edges, url: u.String(), Secret: s, timeout: cfg.Timeout, log: log,
		client: &http.Client{
			Transport: t,
			// A redirect would carry the secret elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close drops the idle connections. Signals under way end normally.
func (n *Node) Close() { n.client.CloseIdleConnections() }

type wakeParams struct {
	Call    string `json:"call"`
	AOR     string `json:"aor"`
	Contact string `json:"contact"`
	CallID  string `json:"call_id"`
	CSeq    uint32 `json:"cseq"`
	Source  string `json:"source"`
	Path    string `json:"path,omitempty"`
	Force   int    `json:"force,omitempty"`
}

// Wake implements wake.Node.
func (n *Node) Wake(ctx context.Context, w wake.Wake, r wake.Registration, force bool) (wake.Signal, error) {
	p := wakeParams{Call: w.Call, AOR: w.AOR, Contact: r.Contact, CallID: r.CallID, CSeq: r.CSeq, Source: r.Source}
	if r.Node != w.Node {
		p.Path = path(n.edges[r.Node], r.Source)
	}
	if force {
		p.Force = 1
	}
	return n.signal(ctx, w, "wake", p, wake.SignalAdded, wake.SignalDuplicate, wake.SignalGone, wake.SignalNoContact)
}

var plainFlow = regexp.MustCompile(`^(udp|tcp|tls|sctp|wss?):([0-9.]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})$`)

// path is the Path (RFC 3327) to a phone's flow through the node that it is
// connected to; empty if that one has no SIP URI.
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

type giveUpParams struct {
	Call string `json:"call"`
}

// GiveUp implements wake.Node.
func (n *Node) GiveUp(ctx context.Context, w wake.Wake) (wake.Signal, error) {
	return n.signal(ctx, w, "give_up", giveUpParams{w.Call}, wake.SignalOK, wake.SignalGone, wake.SignalBusy)
}

func (n *Node) signal(ctx context.Context, w wake.Wake, method string, params any, answers ...wake.Signal) (wake.Signal, error) {
	s, err := n.post(ctx, method, params)
	if err == nil && !slices.Contains(answers, s) {
		err = fmt.Errorf("it answered with the unknown status %.40q", string(s))
	}
	if err != nil {
		return "", fmt.Errorf("cannot signal node %q: %w", n.id, err)
	}
	n.log.LogAttrs(ctx, slog.LevelDebug, "node signalled", slog.String("node", n.id), slog.String("method", method),
		slog.String("status", string(s)), slog.String("aor", w.AOR), slog.String("call_id", w.CallID))
	return s, nil
}

type request struct {
	Version string `json:"jsonrpc"`
	ID      int    `json:"id"`
	Method  string `json:"method"`
	Params  any    `json:"params"`
}

type response struct {
	Result struct {
		Status wake.Signal `json:"status"`
	} `json:"result"`
	Error *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// post sends one request and returns the status of the result. Its errors name
// neither the address nor the secret.
func (n *Node) post(ctx context.Context, method string, params any) (wake.Signal, error) {
	ctx, cancel := context.WithTimeout(ctx, n.timeout)
	defer cancel()
	body, err := json.Marshal(request{Version: "2.0", ID: 1, Method: method, Params: params})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url, bytes.NewReader(body))
	if err != nil {
		return "", errors.New("its url is not valid")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+n.Secret.Reveal())
	// Not sent, but tells the transport that the request may be repeated on
	// another connection when the node has just closed this one: a signal that
	// comes twice is answered "dup".
	req.Header["Idempotency-Key"] = nil
	res, err := n.client.Do(req)
	if err != nil {
		if e := (*url.Error)(nil); errors.As(err, &e) {
			err = e.Err // without the address
		}
		return "", err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	switch {
	case res.StatusCode == http.StatusForbidden:
		return "", ErrForbidden
	case res.StatusCode != http.StatusOK:
		return "", fmt.Errorf("it answered HTTP %d", res.StatusCode)
	case err != nil:
		return "", err
	}
	var r response
	if json.Unmarshal(answer, &r) != nil {
		return "", errors.New("its answer is not JSON-RPC")
	}
	if r.Error != nil {
		return "", fmt.Errorf("it answered error %d: %.80q", r.Error.Code, r.Error.Message)
	}
	return r.Result.Status, nil
}
