package opensips

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// ErrForbidden says that what stands before MI wants another secret.
var ErrForbidden = errors.New("it refused the secret: compare secret_file with what the reverse proxy before MI expects")

// maxAnswer bounds MI's answer in bytes; a real one has about 100.
const maxAnswer = 16 << 10

// miError is the error of a command: MI answers HTTP 200 all the same.
type miError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *miError) Error() string {
	return fmt.Sprintf("it answered error %d: %.80q", e.Code, e.Message)
}

type request struct {
	Version string `json:"jsonrpc"`
	ID      int    `json:"id"`
	Method  string `json:"method"`
	Params  any    `json:"params"`
}

type response struct {
	Version string          `json:"jsonrpc"`
	Result  json.RawMessage `json:"result"`
	Error   *miError        `json:"error"`
}

// command runs an MI command and decodes its result unless result is nil. Its
// errors name no secret.
func (n *Node) command(ctx context.Context, method string, params, result any) error {
	body, err := json.Marshal(request{Version: "2.0", ID: 1, Method: method, Params: params})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("its url is not valid")
	}
	// Without this OpenSIPS never answers.
	req.Header.Set("Content-Type", "application/json")
	if !n.Secret.Empty() {
		req.Header.Set("Authorization", "Bearer "+n.Secret.Reveal())
	}
	// Not sent, but tells the transport that the request may be repeated on
	// another connection when the node has just closed this one: an event that
	// comes twice adds one branch.
	req.Header["Idempotency-Key"] = nil
	res, err := n.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	switch {
	case res.StatusCode == http.StatusForbidden || res.StatusCode == http.StatusUnauthorized:
		return ErrForbidden
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("it answered HTTP %d", res.StatusCode)
	case err != nil:
		return err
	}
	var r response
	if json.Unmarshal(answer, &r) != nil || r.Error == nil && r.Result == nil {
		return errors.New("its answer is not JSON-RPC")
	}
	if r.Error != nil {
		return r.Error
	}
	if result != nil && json.Unmarshal(r.Result, result) != nil {
		return errors.New("its answer is of another shape")
	}
	return nil
}
