package otlp

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	otel "go.opentelemetry.io/otel/trace"

	"github.com/sipwake/sipwake/internal/trace"
)

// call creates the spans of one part. The IDs of a call's trace and of its own span are
// derived from the wake's ID, so that the parts of several instances form one trace.
type call struct {
	*trace.Part
	tracer otel.Tracer
	parent context.Context // with the trace context of wake.start's caller, if it sent one
	trace  otel.TraceID
	root   otel.SpanID
	n      uint64 // children so far
}

func newCall(t otel.Tracer, p *trace.Part) *call {
	sum := sha256.Sum256([]byte(p.ID)) // the bytes of a UUID that sampling uses are not random
	c := &call{Part: p, tracer: t, trace: otel.TraceID(sum[:16]), root: otel.SpanID(sum[16:24])}
	c.parent = propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": p.Parent})
	if sc := otel.SpanContextFromContext(c.parent); sc.IsValid() {
		c.trace = sc.TraceID()
	}
	return c
}

// idsKey is the context key of the next span's IDs.
type idsKey struct{}

type ids struct {
	trace otel.TraceID
	span  otel.SpanID
}

// fixedIDs takes the IDs from the context.
type fixedIDs struct{}

// NewIDs returns the IDs in the context.
func (fixedIDs) NewIDs(ctx context.Context) (otel.TraceID, otel.SpanID) {
	v, ok := ctx.Value(idsKey{}).(ids)
	if !ok {
		panic("BUG: a span without ids")
	}
	return v.trace, v.span
}

// NewSpanID returns the span ID in the context.
func (f fixedIDs) NewSpanID(ctx context.Context, _ otel.TraceID) otel.SpanID {
	_, span := f.NewIDs(ctx)
	return span
}

// spans starts and ends the spans, with the times of the events.
func (c *call) spans() {
	under := c.below()
	if c.Whole {
		under = c.whole()
	}
	type key struct{ device, kind string }
	pushing := make(map[key]*trace.Event)
	registered := make(map[string]*trace.Event)
	for i := range c.Events {
		e := &c.Events[i]
		switch k := (key{e.Device, e.Kind}); e.Name {
		case trace.Pushing:
			pushing[k] = e
		case trace.Accepted, trace.Failed:
			c.push(under, pushing[k], e)
			delete(pushing, k)
		case trace.Registered:
			registered[e.Device] = e
		case trace.Signalled, trace.Lost:
			c.signal(under, registered[e.Device], e)
			delete(registered, e.Device)
		}
	}
	for _, e := range pushing {
		c.push(under, e, nil)
	}
}

// below returns the context for children of the call's span, if another part has that
// span.
func (c *call) below() context.Context {
	flags := otel.FlagsSampled
	if sc := otel.SpanContextFromContext(c.parent); sc.IsValid() {
		flags = sc.TraceFlags()
	} else if !c.sampled() {
		flags = 0
	}
	return otel.ContextWithRemoteSpanContext(context.Background(),
		otel.NewSpanContext(otel.SpanContextConfig{TraceID: c.trace, SpanID: c.root, TraceFlags: flags, Remote: true}))
}

// sampled reports whether the call's span is sampled, whichever instance sends it.
func (c *call) sampled() bool {
	_, s := c.tracer.Start(c.ids(context.Background(), otel.SpanID{1}), "")
	return s.SpanContext().IsSampled() // this span never ends, so it is not exported
}

func (c *call) ids(ctx context.Context, span otel.SpanID) context.Context {
	return context.WithValue(ctx, idsKey{}, ids{c.trace, span})
}

// whole creates the span of the call and returns the context for its children.
func (c *call) whole() context.Context {
	end := c.StartedAt
	for _, e := range c.Events {
		if e.Kind == "" && e.At.After(end) && (c.Reason == "" || e.Name == trace.Ended) {
			end = e.At
		}
	}
	if end.Equal(c.StartedAt) {
		end = c.Last()
	}
	ctx, s := c.tracer.Start(c.ids(c.parent, c.root), "wake "+c.Kind, otel.WithTimestamp(c.StartedAt),
		otel.WithSpanKind(otel.SpanKindServer), otel.WithAttributes(c.common()...))
	s.SetAttributes(attribute.String("sipwake.outcome", c.Outcome), attribute.String("sipwake.reason", c.Reason))
	if c.Verdict != "" {
		s.SetAttributes(attribute.String("sipwake.verdict", c.Verdict))
	}
	for i := range c.Events {
		e := &c.Events[i]
		switch e.Name {
		case trace.Pushing, trace.Accepted, trace.Failed, trace.Signalled:
			continue // these have their own spans
		case trace.Ended:
			if e.Code > 0 {
				s.SetAttributes(attribute.Int("sip.response_code", e.Code))
			}
		}
		s.AddEvent(string(e.Name), otel.WithTimestamp(e.At), otel.WithAttributes(of(e)...))
	}
	s.End(otel.WithTimestamp(end))
	return ctx
}

// common returns the attributes by which a call can be found.
func (c *call) common() []attribute.KeyValue {
	return []attribute.KeyValue{attribute.String("sip.call_id", c.CallID), attribute.String("sipwake.aor", c.AOR),
		attribute.String("sipwake.node", c.Node), attribute.String("sipwake.kind", c.Kind), attribute.String("sipwake.wake_id", c.ID),
		attribute.String("sipwake.instance", c.Instance)}
}

// child creates a child of the call's span.
func (c *call) child(under context.Context, name string, from time.Time, k otel.SpanKind, e *trace.Event) otel.Span {
	c.n++
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(c.ID+" "+c.Instance+" "+from.String()), c.n))
	_, s := c.tracer.Start(c.ids(under, otel.SpanID(sum[:8])), name, otel.WithTimestamp(from), otel.WithSpanKind(k),
		otel.WithAttributes(append(c.common(), of(e)...)...))
	return s
}

// push creates the span of a push. begun is nil if the push was refused at once; ended
// is nil if its end is unknown.
func (c *call) push(under context.Context, begun, ended *trace.Event) {
	e := ended
	if e == nil {
		e = begun
	}
	from, to := e.At, e.At
	if begun != nil {
		from = begun.At
	}
	s := c.child(under, strings.TrimSpace("push "+e.Provider), from, otel.SpanKindClient, e)
	if !e.SentAt.IsZero() {
		s.AddEvent("sent", otel.WithTimestamp(e.SentAt)) // the last try
	}
	if e.Name == trace.Failed {
		s.SetStatus(codes.Error, e.Detail)
	}
	s.End(otel.WithTimestamp(to))
}

// signal creates the span of a signal to the node. It starts with the phone's REGISTER,
// if that caused the signal, and ends with the node's answer.
func (c *call) signal(under context.Context, registered, answered *trace.Event) {
	from := answered.At
	if registered != nil {
		from = registered.At
	}
	s := c.child(under, "signal "+c.Node, from, otel.SpanKindClient, answered)
	if answered.Name == trace.Lost {
		s.SetStatus(codes.Error, answered.Detail)
	}
	s.End(otel.WithTimestamp(answered.At))
}

// of returns the attributes of an event, without empty ones.
func of(e *trace.Event) (list []attribute.KeyValue) {
	for _, a := range []struct{ key, value string }{
		{"sipwake.device", e.Device}, {"sipwake.detail", e.Detail}, {"sipwake.provider", e.Provider}, {"sipwake.app", e.App},
		{"sipwake.push.kind", e.Kind}, {"sipwake.push.id", e.ID},
	} {
		if a.value != "" {
			list = append(list, attribute.String(a.key, a.value))
		}
	}
	if e.Tries > 0 {
		list = append(list, attribute.Int("sipwake.push.tries", e.Tries))
	}
	return list
}
