package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fastjson"

	"github.com/sipwake/sipwake/internal/deadline"
	"github.com/sipwake/sipwake/internal/limit"
)

func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	if !s.conns.Begin(ctx.Conn()) {
		ctx.SetConnectionClose() // another connection took its place, and nobody will read the answer
		return
	}
	defer s.conns.Done(ctx.Conn())
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()
	st := s.settings.Load()
	peer := peerOf(ctx)
	if status := s.shape(ctx, st, peer); status != fasthttp.StatusOK {
		ctx.SetStatusCode(status)
		ctx.SetConnectionClose()
		return
	}
	ctx.SetContentType("application/json")
	now := time.Now()
	if !s.rates.Take(limit.Client(peer), st.rate, now) { // before the token check, to slow down guessing
		s.metrics.limited.Inc()
		s.log.Warn("too many requests of a client", "peer", peer.String())
		s.refuseRate(ctx, st)
		if !s.conns.Proved(ctx.Conn()) {
			ctx.SetConnectionClose()
		}
		return
	}
	simple := isHTTPPush(ctx, st)
	by, door, invalid, known := who(ctx, st, simple)
	if !known {
		s.log.Warn("request not authorised", "peer", peer.String())
		ctx.Response.Header.Set("WWW-Authenticate", "Bearer")
		s.refuseAs(ctx, st, &rpcError{Code: codeNotAuthorised, Message: "not authorised"})
		ctx.SetConnectionClose()
		return
	}
	if by != nil && !s.tenantRates.Take(by.Name, by.limits(), time.Now()) {
		s.log.Warn("too many requests of a tenant", "tenant", by.Name)
		s.refuseRate(ctx, st)
		return
	}
	if door != nil {
		s.answerPush(ctx, st, door, invalid)
		return
	}
	if by == nil && st.access.proves() { // a tenant's connections count as those of strangers
		s.conns.Prove(ctx.Conn())
	}
	s.answer(ctx, st, peer, by, now)
}

// who authenticates a request and returns its tenant, nil for the operator. For a
// simple request, a push by GET or POST, it also returns the pushDoor of its token and
// what is wrong with its body.
func who(ctx *fasthttp.RequestCtx, st *settings, simple bool) (by *tenant, door *pushDoor, invalid error, known bool) {
	if !simple {
		by, known = st.access.allows(ctx)
		return by, nil, nil, known
	}
	invalid = readPushBody(ctx) // it may contain the token
	if door = st.access.allowsPush(ctx); door != nil {
		by = door.tenant
	}
	return by, door, invalid, door != nil
}

func peerOf(ctx *fasthttp.RequestCtx) netip.Addr {
	peer, _ := netip.AddrFromSlice(ctx.RemoteIP())
	return peer.Unmap()
}

// refuse answers a request that never reached a method.
func (s *Server) refuse(ctx *fasthttp.RequestCtx, e *rpcError) {
	s.metrics.count(unknownMethod, e, 0)
	ctx.SetStatusCode(httpStatus(e))
	ctx.Response.SetBodyRaw(appendError(nil, nil, e))
}

// refuseAs is refuse in the format of the interface that was called.
func (s *Server) refuseAs(ctx *fasthttp.RequestCtx, st *settings, e *rpcError) {
	s.refuse(ctx, e)
	if isHTTPPush(ctx, st) {
		plainError(ctx, e)
	}
}

// refuseRate answers a client that exceeds its rate limit.
func (s *Server) refuseRate(ctx *fasthttp.RequestCtx, st *settings) {
	ctx.Response.Header.Set("Retry-After", "1")
	s.refuseAs(ctx, st, &rpcError{Code: codeOverloaded, Message: "too many requests"})
}

// httpStatus returns the HTTP status of an error. It tells proxies that look only at
// the status to continue without sipwake.
func httpStatus(e *rpcError) int {
	switch {
	case e == nil:
		return fasthttp.StatusOK
	case e.Code == codeNotAuthorised:
		return fasthttp.StatusUnauthorized
	case e.Code == codeOverloaded, e.Code == codeNoStore:
		return fasthttp.StatusServiceUnavailable
	}
	return fasthttp.StatusOK
}

func (s *Server) answer(ctx *fasthttp.RequestCtx, st *settings, peer netip.Addr, by *tenant, now time.Time) {
	body := ctx.PostBody()
	if tooDeep(body) {
		s.refuse(ctx, &rpcError{Code: codeInvalid, Message: fmt.Sprintf("invalid request: nested deeper than %d levels", maxDepth)})
		return
	}
	parser := s.parsers.Get()
	defer s.parsers.Put(parser)
	v, err := parser.ParseBytes(body)
	if err != nil {
		// The parser's error quotes the text, which may contain a token.
		s.refuse(ctx, &rpcError{Code: codeParse, Message: "parse error: the body is not JSON"})
		return
	}
	if v.Type() != fastjson.TypeArray {
		dst, e, reply := s.one(ctx.Response.Body()[:0], v, st, sentAt(ctx, by, now), now)
		if !reply {
			ctx.SetStatusCode(fasthttp.StatusNoContent)
			return
		}
		ctx.SetStatusCode(httpStatus(e))
		ctx.Response.SetBody(dst)
		if e != nil && e.Code == codeNotAuthorised {
			ctx.SetConnectionClose()
		}
		return
	}
	items := v.GetArray()
	if len(items) > 1 {
		more := min(len(items), st.MaxBatch) - 1
		s.rates.Owe(limit.Client(peer), more, st.rate, time.Now())
		if by != nil {
			s.tenantRates.Owe(by.Name, more, by.limits(), time.Now())
		}
	}
	s.batch(ctx, items, st, sentAt(ctx, by, now))
}

// sent holds what all requests of one body have in common.
type sent struct {
	at     time.Time
	parent string  // W3C trace context, empty if there is none
	by     *tenant // nil: the operator
}

// traceParentSize is the length of a traceparent header of the only version.
const traceParentSize = 55

func sentAt(ctx *fasthttp.RequestCtx, by *tenant, now time.Time) sent {
	p := ctx.Request.Header.Peek("traceparent")
	if len(p) != traceParentSize {
		p = nil
	}
	return sent{now, string(p), by}
}

// one executes one request and appends the response to dst. reply is false for a
// notification, which gets no response. The deadline counts from when it was sent.
func (s *Server) one(dst []byte, v *fastjson.Value, st *settings, asked sent, began time.Time) (out []byte, e *rpcError, reply bool) {
	req, e := parseRequest(v, dst)
	if e == nil {
		out, e = s.call(append(beginResponse(dst, req.id), `,"result":`...), req, st, asked, began)
	}
	s.metrics.count(req.method, e, time.Since(began))
	switch {
	case req.id == nil && (e == nil || e.Code != codeInvalid):
		return dst, e, false
	case e != nil:
		return appendError(dst, req.id, e), e, true
	}
	return append(out, '}'), nil, true
}

// call appends the result of a request.
func (s *Server) call(dst []byte, req request, st *settings, asked sent, now time.Time) ([]byte, *rpcError) {
	if asked.by != nil && !forTenants(req.method) {
		return nil, errNotForTenants(req.method)
	}
	m := s.table[req.method]
	if m == nil {
		return nil, &rpcError{Code: codeNoMethod, Message: "method not found"}
	}
	allowed := st.Deadline
	if req.method == "push.relay" {
		allowed = max(allowed, relayWait)
	}
	if revealing(req.method) {
		if !st.access.proves() {
			return nil, &rpcError{Code: codeNotAuthorised, Message: needsProof}
		}
		if allowed = max(allowed, bulkDeadline); req.method == "store.backup" {
			allowed = backupDeadline
		}
	}
	until := asked.at.Add(allowed)
	if !now.Before(until) {
		return nil, s.overloaded(req.method)
	}
	if e := s.enter(asked.by, req.method); e != nil {
		return nil, e
	}
	defer s.leave(asked.by, req.method)
	ctx := deadline.With(context.Background(), until)
	defer ctx.Release()
	p := newParams(req.params)
	p.traceParent, p.by = asked.parent, asked.by
	res, err := m(ctx, p)
	if a, ok := res.(appender); ok && err == nil {
		return a.appendJSON(dst), nil
	}
	if err == nil {
		var b []byte
		if b, err = json.Marshal(res); err == nil {
			return append(dst, b...), nil
		}
	}
	e := toError(err)
	switch e.Code {
	case codeInternal:
		s.log.Error("cannot answer request", "method", req.method, "err", err)
	case codeNoStore:
		s.log.Warn("cannot reach store", "method", req.method, "err", err)
	default:
		s.debug.Debug("request refused", "method", req.method, "err", err)
	}
	return nil, e
}

// enter returns an error if no further request can be accepted now. If it returns nil,
// call leave when the request is done.
func (s *Server) enter(by *tenant, method string) *rpcError {
	by = by.counted(method)
	if !by.enter() {
		return s.overloaded(method)
	}
	if !s.gate.enter(method) {
		by.leave()
		return s.overloaded(method)
	}
	return nil
}

func (s *Server) leave(by *tenant, method string) {
	s.gate.leave(method)
	by.counted(method).leave()
}

func (s *Server) overloaded(method string) *rpcError {
	s.log.Warn("request refused, overloaded", "method", method)
	return &rpcError{Code: codeOverloaded, Message: "overloaded: too many requests are being worked on"}
}
