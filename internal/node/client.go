package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
)

// maxAnswer bounds an answer in bytes; a real one has about 100.
const maxAnswer = 16 << 10

// maxHeaders bounds the headers of an answer in bytes.
const maxHeaders = 16 << 10

// Client sends requests to one proxy. Safe for concurrent use.
type Client struct {
	ID    string            // of the node
	Edges map[string]string // SIP URIs of the nodes that have one, by node ID

	cfg       Config // without the secret, and with the complete URL
	forbidden error
	log       *slog.Logger
	link      *link

	Secret secret.Text // exported only so that fmt prints it as a secret
}

// link is what two clients with the same settings share across a reload.
type link struct {
	transport *http.Transport
	closed    atomic.Bool
	taken     atomic.Int64 // when the proxy last answered a signal, in Unix nanoseconds
}

// New returns the client of the node with that ID. It reads the secret file, but does
// not connect before the first request. Errors begin with the YAML name of the wrong
// field.
func New(id string, k Kind, cfg Config, edges map[string]string, log *slog.Logger) (*Client, error) {
	cfg.SetDefaults()
	var problems []error
	cfg.Validate(k, func(field, problem string) { problems = append(problems, fmt.Errorf("%s: %s", field, problem)) })
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	s := cfg.Secret
	if cfg.SecretFile != "" {
		var err error
		if s, err = secret.ReadText(cfg.SecretFile); err == nil && !fitsHeader(s) {
			err = fmt.Errorf("%s %s", cfg.SecretFile, secretProblem)
		}
		if err != nil {
			return nil, fmt.Errorf("secret_file: %w", err)
		}
	}
	u, _ := k.parse(cfg.URL)
	cfg.URL, cfg.Secret, cfg.SecretFile = u.String(), secret.Text{}, ""
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	t.MaxConnsPerHost = cfg.Connections
	t.MaxIdleConnsPerHost = cfg.Connections
	t.MaxIdleConns = cfg.Connections
	t.IdleConnTimeout = k.Idle
	t.MaxResponseHeaderBytes = maxHeaders
	return &Client{ID: id, Edges: edges, cfg: cfg, Secret: s, forbidden: k.Forbidden, log: log, link: &link{transport: t}}, nil
}

// TakeOver lets c use the connections of old if both have the same settings and secret,
// and reports whether they do. Call it before the first request of c. After it, Close
// of either closes the connections of both.
func (c *Client) TakeOver(old *Client) bool {
	if c.cfg != old.cfg || !c.Secret.Equal(old.Secret.Reveal()) {
		return false
	}
	c.link = old.link
	return true
}

// Close closes the idle connections. Current and later requests still work, but close
// their connection at the end.
func (c *Client) Close() {
	c.link.closed.Store(true)
	c.link.transport.CloseIdleConnections()
}

// LastSignal returns when the proxy last answered a signal; zero if it never did.
func (c *Client) LastSignal() time.Time {
	if ns := c.link.taken.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// Bound returns a context that ends after the configured timeout of a signal.
func (c *Client) Bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.cfg.Timeout)
}

// Signalled logs the answer to a signal about w. It returns the answer, or err with the
// ID of the node.
func (c *Client) Signalled(ctx context.Context, w wake.Wake, method string, s wake.Signal, err error) (wake.Signal, error) {
	if err != nil {
		return "", fmt.Errorf("cannot signal node %q: %w", c.ID, err)
	}
	c.link.taken.Store(time.Now().UnixNano())
	c.log.LogAttrs(ctx, slog.LevelDebug, "node signalled", slog.String("node", c.ID), slog.String("method", method),
		slog.String("status", string(s)), slog.String("aor", w.AOR), slog.String("call_id", w.CallID))
	return s, nil
}

// Error is an error that the proxy answered.
type Error struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("it answered error %d: %.80q", e.Code, e.Message) }

type request struct {
	Version string `json:"jsonrpc"`
	ID      int    `json:"id"`
	Method  string `json:"method"`
	Params  any    `json:"params"`
}

type response struct {
	Result json.RawMessage `json:"result"`
	Error  *Error          `json:"error"`
}

// Call sends one request and decodes its result, unless result is nil. An error that the
// proxy answered is an *Error. The others are Kind.Forbidden, *NoAnswerError, ErrOther
// and context.Canceled. No error contains the URL or the secret.
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	body, err := json.Marshal(request{Version: "2.0", ID: 1, Method: method, Params: params})
	if err != nil {
		return err
	}
	answer, err := c.post(ctx, body)
	if err != nil {
		return err
	}
	var r response
	switch {
	case json.Unmarshal(answer, &r) != nil || r.Error == nil && r.Result == nil:
		return otherError("its answer is not JSON-RPC")
	case r.Error != nil:
		return r.Error
	case result != nil && json.Unmarshal(r.Result, result) != nil:
		return otherError("its answer has an unexpected form")
	}
	return nil
}

func (c *Client) post(ctx context.Context, body []byte) (answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("its url is not valid")
	}
	req.Header.Set("Content-Type", "application/json") // without it OpenSIPS never answers
	if !c.Secret.Empty() {
		req.Header.Set("Authorization", "Bearer "+c.Secret.Reveal())
	}
	// This header is not sent. It tells the transport that it may repeat the request
	// on another connection if the proxy has just closed this one: a repeated signal
	// adds no second branch.
	req.Header["Idempotency-Key"] = nil
	req.Close = c.link.closed.Load()
	// An http.Client would follow redirects and send the secret elsewhere.
	res, err := c.link.transport.RoundTrip(req)
	if err != nil {
		return nil, transportError(err)
	}
	defer func() {
		res.Body.Close()
		if c.link.closed.Load() { // by a Close during the request
			c.link.transport.CloseIdleConnections()
		}
	}()
	answer, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	switch res.StatusCode {
	case http.StatusOK:
		if err != nil {
			return nil, transportError(err)
		}
		return answer, nil
	case http.StatusForbidden, http.StatusUnauthorized, http.StatusTooManyRequests: // the last after many wrong ones
		return nil, c.forbidden
	}
	return nil, otherError(fmt.Sprintf("it answered HTTP %d", res.StatusCode))
}
