package otlp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/sipwake/sipwake/internal/trace"
)

// Exporter sends the spans of ended calls.
type Exporter struct {
	client    *http.Client
	sender    sdk.SpanExporter
	provider  *sdk.TracerProvider
	collected collector
}

var _ trace.Exporter = (*Exporter)(nil)

const (
	requestTimeout = 5 * time.Second
	closeTimeout   = time.Second
)

// New returns an Exporter. It reads the files of cfg, but does not connect. version is
// that of sipwake.
func New(cfg Config, version string) (*Exporter, error) {
	u := parseEndpoint(cfg.Endpoint)
	if u == nil {
		return nil, errors.New("endpoint: is not a URL")
	}
	t, err := cfg.transport()
	if err != nil {
		return nil, err
	}
	headers := make(map[string]string, len(cfg.Headers))
	for name, value := range cfg.Headers {
		headers[name] = value.Reveal()
	}
	e := &Exporter{client: &http.Client{Transport: t, Timeout: requestTimeout}}
	options := []otlptracehttp.Option{otlptracehttp.WithEndpoint(u.Host), otlptracehttp.WithURLPath(u.Path),
		otlptracehttp.WithHeaders(headers), otlptracehttp.WithHTTPClient(e.client),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: 500 * time.Millisecond,
			MaxInterval: 2 * time.Second, MaxElapsedTime: 8 * time.Second})}
	if u.Scheme == "http" {
		options = append(options, otlptracehttp.WithInsecure())
	}
	if e.sender, err = otlptracehttp.New(context.Background(), options...); err != nil {
		return nil, fmt.Errorf("cannot make exporter: %w", err)
	}
	e.provider = sdk.NewTracerProvider(
		sdk.WithIDGenerator(fixedIDs{}), sdk.WithSpanProcessor(&e.collected),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(cfg.SampleRatio))),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", cfg.ServiceName),
			attribute.String("service.version", version))))
	return e, nil
}

// Name returns "otlp".
func (e *Exporter) Name() string { return "otlp" }

// Export sends the sampled parts in one request.
func (e *Exporter) Export(ctx context.Context, parts []trace.Part) (lost int, err error) {
	tracer := e.provider.Tracer("github.com/sipwake/sipwake")
	e.collected.spans = nil
	for i := range parts {
		newCall(tracer, &parts[i]).spans()
	}
	if len(e.collected.spans) == 0 {
		return 0, nil
	}
	if err := e.sender.ExportSpans(ctx, e.collected.spans); err != nil {
		return len(parts), err
	}
	return 0, nil
}

// Close ends the connections.
func (e *Exporter) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := errors.Join(e.provider.Shutdown(ctx), e.sender.Shutdown(ctx))
	e.client.CloseIdleConnections()
	return err
}

// collector collects the spans that have ended.
type collector struct{ spans []sdk.ReadOnlySpan }

// OnStart does nothing.
func (c *collector) OnStart(context.Context, sdk.ReadWriteSpan) {}

// OnEnd keeps the span.
func (c *collector) OnEnd(s sdk.ReadOnlySpan) { c.spans = append(c.spans, s) }

// Shutdown does nothing.
func (c *collector) Shutdown(context.Context) error { return nil }

// ForceFlush does nothing.
func (c *collector) ForceFlush(context.Context) error { return nil }
