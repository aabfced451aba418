package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// HTTPPush configures push.send by GET or POST with the parameters of Mizutech's
// gateway, for existing scripts.
type HTTPPush struct {
	// TokenFile holds the token of the scripts, which they send as the parameter authkey
	// or as a bearer token. It is good for nothing else. Empty: the interface is off.
	TokenFile string `yaml:"token_file"`
	// Domain is the domain of users that are given without one.
	Domain string `yaml:"domain"`
}

func (h *HTTPPush) validate(report func(field, problem string)) {
	if h.Domain != "" && h.TokenFile == "" {
		report("http_push.domain", "needs http_push.token_file")
	}
}

const (
	httpPushPath  = "/mvapireq/"
	httpPushEntry = "sendpush"
)

// isHTTPPush reports whether a request is for that interface and the interface is on.
func isHTTPPush(ctx *fasthttp.RequestCtx, st *settings) bool {
	path := string(ctx.Path())
	return len(st.access.push) > 0 && (path == httpPushPath || path+"/" == httpPushPath)
}

// readPushBody adds a body that is a JSON object or a multipart form to the form
// parameters. It ignores values that are not text, numbers or booleans, and bodies of
// other types.
func readPushBody(c *fasthttp.RequestCtx) error {
	kind, _, _ := strings.Cut(string(c.Request.Header.ContentType()), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	switch {
	case !c.IsPost():
		return nil
	case kind == "multipart/form-data":
		return readPushParts(c)
	case kind != "application/json":
		return nil
	}
	var body map[string]any
	d := json.NewDecoder(bytes.NewReader(c.PostBody()))
	d.UseNumber()
	if err := d.Decode(&body); err != nil {
		return &wake.ParamError{Field: "body", Problem: "is not a JSON object"}
	}
	for name, value := range body {
		switch value.(type) {
		case string, json.Number, bool:
			c.PostArgs().Set(name, fmt.Sprint(value))
		}
	}
	return nil
}

// readPushParts reads a multipart form as curl -F and PHP send it.
func readPushParts(c *fasthttp.RequestCtx) error {
	form, err := c.MultipartForm()
	if err != nil {
		return &wake.ParamError{Field: "body", Problem: "is not a form"}
	}
	for name, values := range form.Value {
		c.PostArgs().Set(name, values[0])
	}
	return nil
}

// answerPush answers a request of the interface with a line of text: OK and the id of
// the push, or ERROR and the reason. invalid is set if the body cannot be read.
func (s *Server) answerPush(ctx *fasthttp.RequestCtx, st *settings, d *pushDoor, invalid error) {
	const method = "push.send"
	began := time.Now()
	var m outbox.Message
	err := invalid
	if err == nil {
		m, err = s.httpPush(ctx, st, d)
	}
	var e *rpcError
	if err != nil {
		e = toError(err)
	}
	s.metrics.count(method, e, time.Since(began))
	ctx.Response.Header.Set("Cache-Control", "no-store")
	if e == nil {
		ctx.SetContentType("text/plain; charset=utf-8")
		fmt.Fprintf(ctx, "OK %s devices=%d\n", m.ID, len(m.Targets))
		return
	}
	status := httpStatus(e)
	if status == fasthttp.StatusOK {
		status = fasthttp.StatusBadRequest
	}
	ctx.SetStatusCode(status)
	plainError(ctx, e)
	s.debug.Debug("request refused", "method", method, "err", err)
}

// plainError writes an error in the format that scripts expect.
func plainError(ctx *fasthttp.RequestCtx, e *rpcError) {
	ctx.SetContentType("text/plain; charset=utf-8")
	ctx.SetBodyString("ERROR: " + e.Message + "\n")
}

func (s *Server) httpPush(c *fasthttp.RequestCtx, st *settings, d *pushDoor) (outbox.Message, error) {
	if entry := arg(c, "apientry"); entry != httpPushEntry {
		return outbox.Message{}, &wake.ParamError{Field: "apientry", Problem: "must be " + httpPushEntry}
	}
	if err := s.enter(d.tenant, "push.send"); err != nil {
		return outbox.Message{}, err
	}
	defer s.leave(d.tenant, "push.send")
	ctx, cancel := context.WithTimeout(context.Background(), st.Deadline)
	defer cancel()
	p, err := pushArgs(c, d.domain)
	if err != nil {
		return outbox.Message{}, err
	}
	p.By = d.tenant.caller()
	m, err := s.outbox.Send(ctx, p)
	if err == nil && len(m.Targets) == 0 {
		err = &wake.ParamError{Field: "user", Problem: "has no device that can be pushed"}
	}
	return m, err
}

// pushArgs reads the parameters: user, or app and token; from_user, kind or type,
// title, and message or body. It also accepts the gateway's other names: bnum and
// phone2 for the called user, anum and phone1 for the sender, txt for the message. It
// ignores the parameters of the gateway's other logins (authid, authmd5, now).
func pushArgs(c *fasthttp.RequestCtx, domain string) (outbox.SendParams, error) {
	p := outbox.SendParams{AOR: arg(c, "user", "to_user", "bnum", "phone2"), From: arg(c, "from_user", "anum", "phone1"),
		Display: arg(c, "from_display"), Kind: push.Custom,
		Title: arg(c, "title"), Body: arg(c, "message", "body", "txt", "msg"), Environment: pnparam.Environment(arg(c, "environment"))}
	if kind := arg(c, "kind", "type"); kind != "" {
		k, ok := push.ParseKind(kind)
		if !ok {
			return p, &wake.ParamError{Field: "kind", Problem: "must be a number from 0 to 4, or call, chat, cancel, custom or refresh"}
		}
		p.Kind = k
	}
	if p.AOR != "" {
		if domain != "" && !hasDomain(p.AOR) {
			p.AOR += "@" + domain
		}
		return p, nil
	}
	token := arg(c, "token")
	if token == "" {
		return p, &wake.ParamError{Field: "user", Problem: "is missing; give user, or app and token"}
	}
	p.App, p.Token = arg(c, "app", "package"), secret.NewToken(token)
	p.Provider = providerOf(arg(c, "provider"), token)
	return p, nil
}

// arg returns a copy of the query or form parameter with one of the names.
func arg(c *fasthttp.RequestCtx, names ...string) string {
	for _, name := range names {
		for _, args := range []*fasthttp.Args{c.QueryArgs(), c.PostArgs()} {
			if v := args.Peek(name); len(v) > 0 {
				return string(v)
			}
		}
	}
	return ""
}

func hasDomain(user string) bool {
	for _, c := range user {
		if c == '@' || c == ':' {
			return true
		}
	}
	return false
}

// providerOf reads the letter of X-MPUSH or our own name of the provider. Without a
// name it recognizes an iOS token by its format: only hexadecimal digits.
func providerOf(name, token string) pnparam.Provider {
	switch name {
	case "":
		if isHex(token) {
			return pnparam.APNs
		}
		return pnparam.FCM
	case "i":
		return pnparam.APNs
	case "a", "j":
		return pnparam.FCM
	case "w":
		return pnparam.WebPush
	}
	return pnparam.Provider(name)
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return len(s) >= 64
}

// pushDoor is one token of the interface and what it gives access to.
type pushDoor struct {
	token  secret.Text
	tenant *tenant
	domain string // of users that are given without one
}

// allowsPush returns the pushDoor of the request's token, or nil. It compares every
// token, each in constant time.
func (a *access) allowsPush(c *fasthttp.RequestCtx) (found *pushDoor) {
	if a.cas != nil && !a.hasCertificate(c.TLSConnectionState(), time.Now()) {
		return nil
	}
	shown, bearer := bearerToken(string(c.Request.Header.Peek("Authorization")))
	if key := arg(c, "authkey"); key != "" {
		shown, bearer = key, true
	}
	for i := range a.push {
		if a.push[i].token.Equal(shown) && bearer {
			found = &a.push[i]
		}
	}
	return found
}
