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
	Edges map[string]string // SIP URIs of the nodes that have one, by id

	cfg       Config // without the secret, and with the whole URL
	forbidden error
	log       *slog.Logger
	link      *link

	Secret secret.Text // exported only so that fmt prints it as a secret
}

// link is what clients of the same settings share over a reload.
type link struct {
	transport *http.Transport
	closed    atomic.Bool
	taken     atomic.Int64 // when a signal was last taken, in Unix nanoseconds
}

// New returns the client of the node with that id. It reads the secret's file, and
// does not connect before the first request. Errors begin with the yaml name of the
// field that is wrong.
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

// TakeOver has c use the connections of old, if both have the same settings and
// secret, and reports whether they have. Call it before the first request of c. From
// then on Close of either closes them for both.
func (c *Client) TakeOver(old *Client) bool {
	if c.cfg != old.cfg || !c.Secret.Equal(old.Secret.Reveal()) {
		return false
	}
	c.link = old.link
	return true
}

// Close drops the idle connections. Requests under way end normally, and so do
// later ones, but no connection outlives its request any more.
func (c *Client) Close() {
	c.link.closed.Store(true)
	c.link.transport.CloseIdleConnections()
}

// LastSignal returns when the proxy last took a signal; zero if it never did.
func (c *Client) LastSignal() time.Time {
	if ns := c.link.taken.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// Bound returns a context that ends when a signal must have its answer.
func (c *Client) Bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.cfg.Timeout)
}

// Signalled logs what a signal about w came to and returns it, the error with the
// name of the node.
func (c *Client) Signalled(ctx context.Context, w wake.Wake, method string, s wake.Signal, err error) (wake.Signal, error) {
	if err != nil {
		return "", fmt.Errorf("cannot signal node %q: %w", c.ID, err)
	}
	c.link.taken.Store(time.Now().UnixNano())
	c.log.LogAttrs(ctx, slog.LevelDebug, "node signalled", slog.String("node", c.ID), slog.String("method", method),
		slog.String("status", string(s)), slog.String("aor", w.AOR), slog.String("call_id", w.CallID))
	return s, nil
}

// Error is an error that the proxy answered with.
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

// Call sends one request and decodes its result, unless result is nil. An error that
// the proxy answered with is an *Error; the others are those of Kind.Forbidden,
// *NoAnswerError, ErrOther, and context.Canceled. None names the URL or the secret.
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
		return otherError("its answer is of another shape")
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
	// Not sent, but tells the transport that the request may be repeated on
	// another connection when the proxy has just closed this one: a signal that
	// comes twice adds one branch.
	req.Header["Idempotency-Key"] = nil
	req.Close = c.link.closed.Load()
	// Not through an http.Client: a redirect would carry the secret elsewhere.
	res, err := c.link.transport.RoundTrip(req)
	if err != nil {
		return nil, transportError(err)
	}
	defer func() {
		res.Body.Close()
		if c.link.closed.Load() { // meanwhile
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
