package rpc

import (
	"bytes"
	"errors"
	"net/netip"
	"os"

	"github.com/valyala/fasthttp"
)

// shape returns the HTTP status to refuse a request with before it is read further, or
// 200. Close the connection of a refused request.
func (s *Server) shape(ctx *fasthttp.RequestCtx, st *settings, peer netip.Addr) (status int) {
	h := &ctx.Request.Header
	version := string(h.Protocol())
	switch {
	case version != "HTTP/1.1" && version != "HTTP/1.0":
		return fasthttp.StatusHTTPVersionNotSupported
	case !framed(h):
		return fasthttp.StatusBadRequest
	case len(h.Peek("Origin")) > 0 && !st.access.wantsToken() && !isHTTPPush(ctx, st):
		s.log.Warn("request of a web page refused: without rpc.token_files any page that a browser here shows could call", "peer", peer.String())
		return fasthttp.StatusForbidden
	case (string(ctx.Path()) == "/rpc" || isHTTPPush(ctx, st)) && !st.access.fromNetwork(peer):
		s.log.Warn("request from a network that may not call", "peer", peer.String())
		return fasthttp.StatusForbidden
	case isHTTPPush(ctx, st):
		if !ctx.IsGet() && !ctx.IsPost() {
			ctx.Response.Header.Set("Allow", "GET, POST")
			return fasthttp.StatusMethodNotAllowed
		}
	case string(ctx.Path()) != "/rpc": // sipwake's own health check, from this machine
		return fasthttp.StatusNotFound
	case !ctx.IsPost():
		ctx.Response.Header.Set("Allow", "POST")
		return fasthttp.StatusMethodNotAllowed
	}
	return fasthttp.StatusOK
}

// expects returns the status for a request with an Expect header; 100 is Continue.
func (s *Server) expects(ctx *fasthttp.RequestCtx) (status int) {
	if ctx.Request.Header.ContentLength() > s.http.MaxRequestBodySize {
		return fasthttp.StatusRequestEntityTooLarge
	}
	if status = s.shape(ctx, s.settings.Load(), peerOf(ctx)); status != fasthttp.StatusOK {
		return status
	}
	return fasthttp.StatusContinue
}

// framed reports whether the framing of the body is unambiguous: a Content-Length or
// chunks, not both, and no other transfer coding (RFC 9112 6.1, 6.3). It prevents
// request smuggling through a proxy that reads the framing differently.
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

// badRequest answers an incomplete or invalid HTTP request. A timeout gets no answer:
// the client may have sent a request at this moment, and would take the answer as the
// response to it.
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
