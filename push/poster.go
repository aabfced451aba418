package push

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
)

// maxAnswer is how many bytes of an answer's body are read.
const maxAnswer = 64 << 10

// Poster posts JSON to a push service, with one request at a time per connection. It
// closes the connections with the last push after Close. Safe for concurrent use.
type Poster struct {
	// Transport may be changed before first use.
	Transport *http.Transport
	users     Users
}

// Posted is an answer. A truncated Body has the bytes that arrived.
type Posted struct {
	Status int
	Header http.Header
	Body   []byte
}

// NewPoster returns a Poster that trusts as config says, and the Chain that records
// how long the service's CAs are valid. It does not connect.
func NewPoster(config *tls.Config, inFlight int) (*Poster, *Chain) {
	chain := new(Chain)
	chain.Watch(config)
	return &Poster{Transport: NewTransport(config, inFlight)}, chain
}

// Use keeps the connections open until done is called.
func (p *Poster) Use() (done func()) {
	p.users.Enter()
	return func() {
		if p.users.Leave() {
			p.Transport.CloseIdleConnections()
		}
	}
}

// Close implements Provider.Close.
func (p *Poster) Close() {
	if p.users.Close() {
		p.Transport.CloseIdleConnections()
	}
}

// Post makes one request with the given header and the common headers. It does not
// follow redirects. If the header has an Idempotency-Key, the request is sent again
// when the service has just closed the connection. The error may quote the URL: pass
// it to NoAnswer.
func (p *Poster) Post(ctx context.Context, url string, header http.Header, body []byte) (Posted, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return Posted{}, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "sipwake")
	resp, err := p.Transport.RoundTrip(req) // not a Client: it would follow redirects
	if err != nil {
		return Posted{}, err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // what broke off does not undo the status
	return Posted{resp.StatusCode, resp.Header, text}, nil
}
