package migrations

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/jobs"
)

// jobsPage is how many jobs are compared at a time.
const jobsPage = 500

// JobsReport says what SyncJobs did.
type JobsReport struct {
	Jobs    uint64 `json:"jobs"`    // looked at
	Changed uint64 `json:"changed"` // written
	Events  uint64 `json:"events"`  // log entries written
	// Damaged jobs have documents that cannot be used; they are left out.
	Damaged uint64 `json:"damaged,omitempty"`
}

var (
	historyColumns = []string{"kind", "id", "name", "target", "reason", "created_by", "state", "state_reason", "phase", "position",
		"events_done", "events_total", "events_selected", "dead_letters", "bytes_read", "attempt", "epoch", "worker", "error", "spec",
		"created_at", "started_at", "ended_at", "updated_at", "nonce", "revision"}
	eventColumns = []string{"kind", "job", "seq", "time", "level", "message", "worker", "by"}
)

// SyncJobs copies the documents of all jobs, as far as they changed since the last
// time, into the tables behind rebuilds, replays and job_log. Jobs whose documents are
// gone stay in the tables. Several may run at once.
func (m *Migrator) SyncJobs(ctx context.Context, store *jobs.Store) (JobsReport, error) {
	var report JobsReport
	if err := m.require(ctx, 1); err != nil {
		return report, err
	}
	page := make([]*jobs.Job, 0, jobsPage)
	for job, err := range store.List(ctx, jobs.Query{}) {
		if err != nil {
			return report, fmt.Errorf("list the jobs: %w", err)
		}
		if job.Damaged != nil {
			report.Damaged++
			m.logger.Warn("job left out: its document cannot be used", "job", job.ID, "error", job.Damaged)
			continue
		}
		if page = append(page, job); len(page) == jobsPage {
			if err := m.syncPage(ctx, page, &report); err != nil {
				return report, err
			}
			page = page[:0]
		}
	}
	return report, m.syncPage(ctx, page, &report)
}

// knownJob is what the tables have of a job.
type knownJob struct {
	nonce    string
	revision uint64
	events   uint64 // the number of the next log entry
}

func (m *Migrator) syncPage(ctx context.Context, page []*jobs.Job, report *JobsReport) error {
	if len(page) == 0 {
		return nil
	}
	report.Jobs += uint64(len(page))
	known, err := m.knownJobs(ctx, page)
	if err != nil {
		return err
	}
	now := time.Now()
	var history, events [][]any
	for _, job := range page {
		k := known[job.ID]
		if k.nonce == job.Nonce {
			continue
		}
		row, err := historyRow(job, revision(now, k.revision))
		if err != nil {
			return err
		}
		history = append(history, row)
		events = append(events, eventRows(job, k.events)...)
	}
	// The log comes first: a job whose row is new has all of its log.
	if err := m.insert(ctx, "job_events", eventColumns, events); err != nil {
		return err
	}
	if err := m.insert(ctx, "job_history", historyColumns, history); err != nil {
		return err
	}
	report.Changed += uint64(len(history))
	report.Events += uint64(len(events))
	return nil
}

func (m *Migrator) knownJobs(ctx context.Context, page []*jobs.Job) (map[string]knownJob, error) {
	ids := make([]string, len(page))
	for i, job := range page {
		ids[i] = job.ID
	}
	in := " IN (" + chstore.Literals(ids) + ")"
	known := make(map[string]knownJob, len(page))
	err := m.each(ctx, "read the history of jobs", "SELECT id, nonce, revision FROM "+m.table("job_history")+" FINAL WHERE id"+in, func(rows *sql.Rows) error {
		var id string
		var k knownJob
		if err := rows.Scan(&id, &k.nonce, &k.revision); err != nil {
			return err
		}
		known[id] = k
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = m.each(ctx, "read the logs of jobs", "SELECT job, max(seq) + 1 FROM "+m.table("job_events")+" WHERE job"+in+" GROUP BY job", func(rows *sql.Rows) error {
		var id string
		var next uint64
		if err := rows.Scan(&id, &next); err != nil {
			return err
		}
		k := known[id]
		k.events = next
		known[id] = k
		return nil
	})
	return known, err
}

func historyRow(job *jobs.Job, revision uint64) ([]any, error) {
	spec, err := publicSpec(job.Spec)
	if err != nil {
		return nil, fmt.Errorf("read the spec of job %s: %w", job.ID, err)
	}
	var worker, failure string
	if job.Lease != nil {
		worker = job.Lease.Worker
	}
	if job.LastError != nil {
		failure = job.LastError.Message
	}
	p := job.Progress
	return []any{
		job.Kind, job.ID, text(job.Name), text(job.Target), text(job.Reason), text(job.CreatedBy), string(job.State), text(job.StateReason),
		text(p.Phase), text(p.Position), p.Done, p.Total, p.Selected, p.DeadLetters, uint64(max(p.BytesRead, 0)),
		uint32(max(job.Attempt, 0)), job.Epoch, text(worker), text(failure), text(spec), job.CreatedAt.UTC(), optional(job.StartedAt), optional(job.EndedAt), job.UpdatedAt.UTC(),
		job.Nonce, revision,
	}, nil
}

// publicSpec leaves out of a spec where a replay writes to: that may hold secrets.
func publicSpec(spec json.RawMessage) (string, error) {
	fields := map[string]json.RawMessage{}
	if len(spec) > 0 {
		if err := json.Unmarshal(spec, &fields); err != nil {
			return "", err
		}
	}
	delete(fields, "sink")
	out, err := json.Marshal(fields)
	return string(out), err
}

// optional gives nil for no time.
func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// eventRows gives the log entries of a job from a number on.
func eventRows(job *jobs.Job, from uint64) [][]any {
	var rows [][]any
	for i, entry := range job.Log {
		seq := uint64(max(job.LogDropped, 0) + i)
		if seq < from {
			continue
		}
		rows = append(rows, []any{job.Kind, job.ID, seq, entry.Time.UTC(), strings.ToLower(entry.Level), text(entry.Message), text(entry.Worker), text(entry.By)})
	}
	return rows
}
