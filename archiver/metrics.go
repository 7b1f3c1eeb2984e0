package archiver

import (
	"strconv"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what an archiver tells Prometheus.
type metrics struct {
	streams   prometheus.Gauge
	events    prometheus.Counter
	rawBytes  prometheus.Counter
	stored    prometheus.Counter
	commits   *prometheus.CounterVec
	conflicts prometheus.Counter
	errors    prometheus.Counter
	gaps      *prometheus.CounterVec
	lost      *prometheus.CounterVec
	trimmed   prometheus.Counter
	lag       *prometheus.GaugeVec
	lagTime   *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "reservoir_archiver_" + name, Help: help})
	}
	gaugeVec := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "reservoir_archiver_" + name, Help: help}, []string{"stream"})
	}
	m := &metrics{
		streams:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "reservoir_archiver_streams", Help: "Streams that are followed."}),
		events:    counter("events_total", "Events committed to the archive."),
		rawBytes:  counter("raw_bytes_total", "Bytes of names and values of the events committed."),
		stored:    counter("stored_bytes_total", "Bytes of the segments committed, all formats."),
		conflicts: counter("conflicts_total", "Segments thrown away because another archiver committed first."),
		errors:    counter("errors_total", "Drains and polls that failed and are tried again."),
		trimmed:   counter("trimmed_entries_total", "Entries trimmed from Redis after they were archived."),
		commits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reservoir_archiver_commits_total", Help: "Commits made, by kind.",
		}, []string{"kind"}),
		gaps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reservoir_archiver_gaps_total", Help: "Gaps found: ranges lost in Redis before they were archived.",
		}, []string{"stream", "cause"}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reservoir_archiver_lost_entries_total", Help: "Entries lost in Redis before they were archived.",
		}, []string{"stream", "cause"}),
		lag:     gaugeVec("lag_entries", "Entries in Redis beyond the committed head, when last looked at."),
		lagTime: gaugeVec("lag_seconds", "How long the oldest entry beyond the committed head has been known."),
	}
	if reg != nil {
		reg.MustRegister(m.streams, m.events, m.rawBytes, m.stored, m.conflicts, m.errors, m.trimmed, m.commits, m.gaps, m.lost, m.lag, m.lagTime)
	}
	return m
}

// streamLabel gives a stream's name as a label's value. Prometheus panics on
// what is not UTF-8, and names of keys may hold any bytes: those are escaped.
func streamLabel(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	quoted := strconv.Quote(name)
	return quoted[1 : len(quoted)-1]
}
