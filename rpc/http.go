package rpc

import (
	"bytes"
	"errors"
	"net/netip"
	"os"

	"github.com/valyala/fasthttp"
)

// shape returns the HTTP status with which a request is turned away before it is
// looked into, or 200. Its connection is to be closed then.
func (s *Server) shape(ctx *fasthttp.RequestCtx, st *settings, peer netip.Addr) (status int) {
	h := &ctx.Request.Header
	version := string(h.Protocol())
	switch {
	case version != "HTTP/1.1" && version != "HTTP/1.0":
		return fasthttp.StatusHTTPVersionNotSupported
	case !framed(h):
		return fasthttp.StatusBadRequest
	case len(h.Peek("Origin")) > 0 && !st.access.wantsToken() && !isHTTPPush(ctx, st):
		s.log.Warn("request of a web page refused: that needs token_files", "peer", peer.String())
		return fasthttp.StatusForbidden
	case (string(ctx.Path()) == "/rpc" || isHTTPPush(ctx, st)) && !st.access.fromNetwork(peer):
		s.log.Warn("request from a network that may not call", "peer", peer.String())
		return fasthttp.StatusForbidden
	case isHTTPPush(ctx, st):
		if !ctx.IsGet() && !ctx.IsPost() {
			ctx.Response.Header.Set("Allow", "GET, POST")
			return fasthttp.StatusMethodNotAllowed
		}
	case string(ctx.Path()) != "/rpc": // sipwake asks so whether it answers, from this machine
		return fasthttp.StatusNotFound
	case !ctx.IsPost():
		ctx.Response.Header.Set("Allow", "POST")
		return fasthttp.StatusMethodNotAllowed
	}
	return fasthttp.StatusOK
}

// expects answers a client that asks before it sends a body: 100 is go on.
func (s *Server) expects(ctx *fasthttp.RequestCtx) (status int) {
	if ctx.Request.Header.ContentLength() > s.http.MaxRequestBodySize {
		return fasthttp.StatusRequestEntityTooLarge
	}
	if status = s.shape(ctx, s.settings.Load(), peerOf(ctx)); status != fasthttp.StatusOK {
		return status
	}
	return fasthttp.StatusContinue
}

// framed reports whether a request says in one way where its body ends: a length
// or chunks, not both, and no other transfer coding (RFC 9112 6.1, 6.3). Where a
// proxy in between reads the other way, one request could hide in another.
func framed(h *fasthttp.RequestHeader) bool {
	coded, sized := false, false
	for line := range bytes.Lines(h.RawHeaders()) {
		name, _, _ := bytes.Cut(line, []byte(":"))
		coded = coded || bytes.EqualFold(name, []byte("Transfer-Encoding"))
		sized = sized || bytes.EqualFold(name, []byte("Content-Length"))
	}
	const chunked = -1
	return !coded || !sized && h.ContentLength() == chunked
}

// badRequest answers what is not a whole HTTP request. What did not come in time
// gets no answer: the client may have sent a request in this moment, and would
// take it for the answer.
func badRequest(ctx *fasthttp.RequestCtx, err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = ctx.Conn().Close()
		return
	}
	if errors.Is(err, fasthttp.ErrBodyTooLarge) {
		ctx.SetStatusCode(fasthttp.StatusRequestEntityTooLarge)
		return
	}
	ctx.SetStatusCode(fasthttp.StatusBadRequest)
}
