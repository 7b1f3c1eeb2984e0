package consumer

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// scope names the spans' instrumentation.
const scope = "github.com/reservoirhq/reservoir/consumer"

// span begins the span of one event, linked to the one that a traceparent field of
// the event names. end takes the handler's error.
func (c *Consumer[Tx]) span(ctx context.Context, r *Record) (_ context.Context, end func(error)) {
	attributes := []attribute.KeyValue{
		attribute.String("messaging.system", "redis_streams"),
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.consumer.group.name", c.cfg.Name),
		attribute.String("messaging.destination.name", r.Stream),
		attribute.String("messaging.message.id", r.ID.String()),
		attribute.String("reservoir.event.type", r.Type),
		attribute.Int("reservoir.attempt", r.Attempt),
	}
	if r.CorrelationID != "" {
		attributes = append(attributes, attribute.String("messaging.message.conversation_id", r.CorrelationID))
	}
	if id, _, _, ok := r.Replay(); ok {
		attributes = append(attributes, attribute.String("reservoir.replay", id))
	}
	opts := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attributes...)}
	if link := trace.LinkFromContext(producer(ctx, r)); link.SpanContext.IsValid() {
		opts = append(opts, trace.WithLinks(link))
	}
	ctx, s := c.cfg.Traces.Tracer(scope).Start(ctx, "process "+r.Type, opts...)
	return ctx, func(err error) {
		if err != nil {
			s.RecordError(err)
			s.SetStatus(codes.Error, err.Error())
		}
		s.End()
	}
}

// producer reads the W3C trace context of an event.
func producer(ctx context.Context, r *Record) context.Context {
	parent, ok := r.Get("traceparent")
	if !ok {
		return ctx
	}
	state, _ := r.Get("tracestate")
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": string(parent), "tracestate": string(state)})
}
