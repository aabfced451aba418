package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/deadline"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
)

// maxAnswer bounds an answer in bytes; a real one has about 100.
const maxAnswer = 16 << 10

// Client sends requests to one proxy. Safe for concurrent use.
type Client struct {
	ID    string            // of the node
	Edges map[string]string // SIP URIs of the nodes that have one, by node ID

	cfg       Config // without the secret, and with the complete URL
	forbidden error
	log       *slog.Logger
	link      *link
	// When a signal was last taken, and until when nothing is asked because the secret
	// was refused, in Unix nanoseconds; shared as link is.
	taken, refused *atomic.Int64

	Secret secret.Text // exported only so that fmt prints it as a secret
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
	return &Client{ID: id, Edges: edges, cfg: cfg, Secret: s, forbidden: k.Forbidden, log: log,
		taken: new(atomic.Int64), refused: new(atomic.Int64),
		link: newLink(u, cfg.Connections, k.Idle)}, nil
}

// TakeOver lets c use the connections of old if both have the same settings and secret,
// and reports whether they do. Call it before the first request of c. After it, Close
// of either closes the connections of both.
func (c *Client) TakeOver(old *Client) bool {
	if c.cfg != old.cfg || !c.Secret.Equal(old.Secret.Reveal()) {
		return false
	}
	c.link, c.taken, c.refused = old.link, old.taken, old.refused
	return true
}

// Close closes the idle connections. Current and later requests still work, but close
// their connection at the end.
func (c *Client) Close() { c.link.close() }

// LastSignal returns when the proxy last answered a signal; zero if it never did.
func (c *Client) LastSignal() time.Time {
	if ns := c.taken.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// Bound returns a context that ends after the configured timeout of a signal.
func (c *Client) Bound(ctx context.Context) (context.Context, context.CancelFunc) {
	d := deadline.Within(ctx, c.cfg.Timeout)
	return d, d.Release
}

// Signalled logs the answer to a signal about w. It returns the answer, or err with the
// ID of the node.
func (c *Client) Signalled(ctx context.Context, w wake.Wake, method string, s wake.Signal, err error) (wake.Signal, error) {
	if err != nil {
		return "", fmt.Errorf("cannot signal node %q: %w", c.ID, err)
	}
	c.taken.Store(time.Now().UnixNano())
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

// refusedPause is how long nothing is asked after a secret was refused. A proxy counts
// wrong secrets, and too many shut out the right one: sipwake.cfg accepts ten in a minute,
// of which the probes take two.
const refusedPause = 10 * time.Second

// Call sends one request and decodes its result, unless result is nil. An error that the
// proxy answered is an *Error. The others are Kind.Forbidden, *NoAnswerError, ErrOther
// and context.Canceled. No error contains the URL or the secret.
// For a while after a refused secret it asks nothing and repeats the error.
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	if time.Now().UnixNano() < c.refused.Load() {
		return c.forbidden
	}
	return c.Ask(ctx, method, params, result)
}

// Ask is Call, also right after a refused secret. It is for probes, which are rare.
func (c *Client) Ask(ctx context.Context, method string, params, result any) error {
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
	status, answer, err := c.link.exchange(ctx, c.Secret, body)
	switch {
	case err != nil && (status == 0 || status == http.StatusOK):
		return nil, transportError(err)
	case status == http.StatusOK:
		c.refused.Store(0)
		return answer, nil
	case status == http.StatusForbidden, status == http.StatusUnauthorized, status == http.StatusTooManyRequests: // the last after many wrong ones
		c.refused.Store(time.Now().Add(refusedPause).UnixNano())
		return nil, c.forbidden
	}
	return nil, otherError(fmt.Sprintf("it answered HTTP %d", status))
}
