package consumer

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reservoirhq/reservoir/redisstream"
)

// metrics are those of one consumer, by stream.
type metrics struct {
	handledEvents, skippedEvents, duplicates, failures, deadLetters, lostEntries *prometheus.CounterVec
	seconds                                                                      *prometheus.HistogramVec
	active, lagEntries, lagSeconds                                               *prometheus.GaugeVec
}

func newMetrics(to prometheus.Registerer, consumer string) (*metrics, error) {
	labels := prometheus.Labels{"consumer": consumer}
	var errs []error
	counter := func(name, help string) *prometheus.CounterVec {
		return register(to, &errs, prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: "reservoir_consumer_" + name, Help: help, ConstLabels: labels}, []string{"stream"}))
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return register(to, &errs, prometheus.NewGaugeVec(
			prometheus.GaugeOpts{Name: "reservoir_consumer_" + name, Help: help, ConstLabels: labels}, []string{"stream"}))
	}
	m := &metrics{
		handledEvents: counter("handled_events_total", "Events that were handled and committed."),
		skippedEvents: counter("skipped_events_total", "Events that no handler is for."),
		duplicates:    counter("duplicate_events_total", "Events left out because a copy of them was handled before."),
		failures:      counter("failed_attempts_total", "Attempts at single events that failed."),
		deadLetters:   counter("dead_letters_total", "Events put among the dead letters."),
		lostEntries:   counter("lost_entries_total", "Entries that were trimmed or deleted before they were read."),
		active:        gauge("active", "1 while this process works on the stream."),
		lagEntries:    gauge("lag_entries", "Entries not dealt with yet; only where that is known exactly."),
		lagSeconds:    gauge("lag_seconds", "Age of the last entry that was dealt with, 0 at the end of the stream."),
		seconds: register(to, &errs, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "reservoir_consumer_transaction_seconds", Help: "Time from the first handler of a transaction to the end of its commit.",
			ConstLabels: labels, Buckets: prometheus.ExponentialBuckets(0.0005, 4, 10),
		}, []string{"stream"})),
	}
	return m, errors.Join(errs...)
}

// register registers a collector, or returns the equal one that is registered.
func register[C prometheus.Collector](to prometheus.Registerer, errs *[]error, c C) C {
	if to == nil {
		return c
	}
	err := to.Register(c)
	if there, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if same, ok := there.ExistingCollector.(C); ok {
			return same
		}
	}
	if err != nil {
		*errs = append(*errs, err)
	}
	return c
}

// gauges are the metrics of one stream.
type gauges struct {
	m      *metrics
	stream string
}

func (m *metrics) of(stream string) gauges { return gauges{m, stream} }

// working tells whether this process has the stream. Who has not does not know its lag.
func (g gauges) working(on bool) {
	if on {
		g.m.active.WithLabelValues(g.stream).Set(1)
		return
	}
	g.m.active.WithLabelValues(g.stream).Set(0)
	g.m.lagEntries.DeleteLabelValues(g.stream)
	g.m.lagSeconds.DeleteLabelValues(g.stream)
}

func (g gauges) skipped() { g.m.skippedEvents.WithLabelValues(g.stream).Inc() }

func (g gauges) failed() { g.m.failures.WithLabelValues(g.stream).Inc() }

func (g gauges) dead(n int) { g.m.deadLetters.WithLabelValues(g.stream).Add(float64(n)) }

func (g gauges) lost(n uint64) { g.m.lostEntries.WithLabelValues(g.stream).Add(float64(n)) }

func (g gauges) handled(n, again int, took time.Duration) {
	g.m.handledEvents.WithLabelValues(g.stream).Add(float64(n))
	g.m.duplicates.WithLabelValues(g.stream).Add(float64(again))
	g.m.seconds.WithLabelValues(g.stream).Observe(took.Seconds())
}

// lag shows how far the reader was behind when it took a snapshot, with so many
// entries of it in hand.
func (g gauges) lag(snap redisstream.Snapshot, l *redisstream.Ledger, known bool, inHand int) {
	if snap.HasInfo && known {
		g.m.lagEntries.WithLabelValues(g.stream).Set(float64(snap.Info.EntriesAdded) - float64(l.Added) + float64(inHand))
	}
	switch {
	case snap.AtEnd && inHand == 0:
		g.m.lagSeconds.WithLabelValues(g.stream).Set(0)
	case !l.Position.IsZero() && known:
		g.m.lagSeconds.WithLabelValues(g.stream).Set(max(0, time.Since(time.UnixMilli(int64(l.Position.Ms))).Seconds()))
	}
}
