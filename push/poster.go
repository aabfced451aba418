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

// Poster posts JSON to a push service, with one request on a connection at a time. It
// lets go of the connections with the last push after Close. Safe for concurrent use.
type Poster struct {
	// Transport may be changed before it is used.
	Transport *http.Transport
	users     Users
}

// Posted is an answer. A Body that broke off is as long as it came.
type Posted struct {
	Status int
	Header http.Header
	Body   []byte
}

// NewPoster returns one that trusts as config says, and what tells until when the
// service is trusted. It does not connect.
func NewPoster(config *tls.Config, inFlight int) (*Poster, *Chain) {
	chain := new(Chain)
	chain.Watch(config)
	return &Poster{Transport: NewTransport(config, inFlight)}, chain
}

// Use keeps the connections until done is called.
func (p *Poster) Use() (done func()) {
	p.users.Enter()
	return func() {
		if p.users.Leave() {
			p.Transport.CloseIdleConnections()
		}
	}
}

// Close is Provider.Close.
func (p *Poster) Close() {
	if p.users.Close() {
		p.Transport.CloseIdleConnections()
	}
}

// Post makes one request with that header and what every one has; a redirect is not
// followed. If the header has an Idempotency-Key, it is sent again when the service has
// just closed the connection. The error may quote the URL: it is for NoAnswer.
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
