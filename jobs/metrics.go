package jobs

import "github.com/prometheus/client_golang/prometheus"

// metrics are what a Runner tells Prometheus.
type metrics struct {
	active    *prometheus.GaugeVec
	running   *prometheus.GaugeVec
	acquired  *prometheus.CounterVec
	takeovers *prometheus.CounterVec
	attempts  *prometheus.CounterVec
	lost      *prometheus.CounterVec
	errors    prometheus.Counter
	known     map[[2]string]bool // labels of active, to set to zero what is gone
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "reservoir_jobs_" + name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "reservoir_jobs_" + name, Help: help}, labels)
	}
	m := &metrics{
		active:    gauge("active", "Jobs that are not closed, of all workers, when last looked at.", "kind", "state"),
		running:   gauge("running", "Jobs that this worker has in hand.", "kind"),
		acquired:  counter("acquired_total", "Jobs that this worker took.", "kind"),
		takeovers: counter("takeovers_total", "Of these, jobs taken over from a worker that was not heard of any more.", "kind"),
		attempts:  counter("attempts_total", "Attempts that ended, by the state in which they left the job.", "kind", "state"),
		lost:      counter("leases_lost_total", "Attempts that ended because the lease was lost, or could not be renewed in time.", "kind"),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "reservoir_jobs_errors_total", Help: "Looks for jobs that failed and are tried again.",
		}),
		known: map[[2]string]bool{},
	}
	if reg != nil {
		reg.MustRegister(m.active, m.running, m.acquired, m.takeovers, m.attempts, m.lost, m.errors)
	}
	return m
}

// observe counts the jobs that a scan saw. Only one Run may call it at a time.
func (m *metrics) observe(seen map[string]*seenJob, here *running) {
	counts := map[[2]string]int{}
	for id, s := range seen {
		if s.job == nil {
			continue
		}
		state := s.job.State
		if here.has(id) { // not looked at: its session knows more
			state = Running
		}
		counts[[2]string{s.job.Kind, string(state)}]++
	}
	for labels := range m.known {
		if counts[labels] == 0 {
			m.active.DeleteLabelValues(labels[:]...)
			delete(m.known, labels)
		}
	}
	for labels, n := range counts {
		m.active.WithLabelValues(labels[:]...).Set(float64(n))
		m.known[labels] = true
	}
}
