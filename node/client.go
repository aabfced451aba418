package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/sipwake/sipwake/secret"
	"github.com/sipwake/sipwake/wake"
)

// maxAnswer bounds an answer in bytes; a real one has about 100.
const maxAnswer = 16 << 10

// Client sends requests to one proxy. Safe for concurrent use.
type Client struct {
	ID    string            // of the node
	Edges map[string]string // SIP URIs of the nodes that have one, by id

	url         string
	timeout     time.Duration
	http        *http.Client
	forbidden   error
	fingerprint string
	log         *slog.Logger

	Secret secret.Text // exported only so that fmt prints it as a secret
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
	if cfg.SecretFile != "" {
		var err error
		if cfg.Secret, err = secret.ReadText(cfg.SecretFile); err == nil && !fitsHeader(cfg.Secret) {
			err = fmt.Errorf("%s %s", cfg.SecretFile, secretProblem)
		}
		if err != nil {
			return nil, fmt.Errorf("secret_file: %w", err)
		}
	}
	u, _ := k.parse(cfg.URL)
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	t.MaxConnsPerHost = cfg.Connections
	t.MaxIdleConnsPerHost = cfg.Connections
	t.MaxIdleConns = cfg.Connections
	t.IdleConnTimeout = k.Idle
	return &Client{
		ID: id, Edges: edges, url: u.String(), Secret: cfg.Secret, timeout: cfg.Timeout, forbidden: k.Forbidden, log: log,
		fingerprint: fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%q %q %q %s %d %q", id, u, cfg.Secret.Reveal(), cfg.Timeout, cfg.Connections, edges))),
		http: &http.Client{
			Transport: t,
			// A redirect would carry the secret elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close drops the idle connections. Requests under way end normally.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Fingerprint is the same for clients that were made from the same settings and the
// same secret. It is for comparisons in this process, and is not to be shown.
func (c *Client) Fingerprint() string { return c.fingerprint }

// Bound returns a context that ends when a signal must have its answer.
func (c *Client) Bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.timeout)
}

// Signalled logs what a signal about w came to and returns it, the error with the
// name of the node.
func (c *Client) Signalled(ctx context.Context, w wake.Wake, method string, s wake.Signal, err error) (wake.Signal, error) {
	if err != nil {
		return "", fmt.Errorf("cannot signal node %q: %w", c.ID, err)
	}
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

var (
	errNotJSONRPC = errors.New("its answer is not JSON-RPC")
	errShape      = errors.New("its answer is of another shape")
)

// Call sends one request and decodes its result, unless result is nil. An error that
// the proxy answered with is an *Error. No error names the URL or the secret.
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
		return errNotJSONRPC
	case r.Error != nil:
		return r.Error
	case result != nil && json.Unmarshal(r.Result, result) != nil:
		return errShape
	}
	return nil
}

func (c *Client) post(ctx context.Context, body []byte) (answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
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
	res, err := c.http.Do(req)
	if err != nil {
		if e := (*url.Error)(nil); errors.As(err, &e) {
			err = e.Err // without the address
		}
		return nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	switch res.StatusCode {
	case http.StatusOK:
		return answer, err
	case http.StatusForbidden, http.StatusUnauthorized:
		return nil, c.forbidden
	}
	return nil, fmt.Errorf("it answered HTTP %d", res.StatusCode)
}
