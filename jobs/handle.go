package jobs

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/objectstore"
)

// Handle is an engine's hold on the job that it runs. It is safe for concurrent
// use.
type Handle struct{ s *session }

// Job returns the job as it was last written, with what was reported since.
// What its slices hold must not be changed.
func (h *Handle) Job() Job {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	return *h.s.overlay(h.s.job)
}

// Epoch returns the number that fences this attempt; see Job.Epoch.
func (h *Handle) Epoch() uint64 { return h.s.epoch }

// Files is a part of the object store that is this job's alone, for as long as
// the job is kept. It is not fenced: a worker that lost the job can still write.
func (h *Handle) Files() objectstore.Store { return h.s.store.Files(h.s.id) }

// Report changes the progress in memory; the next heartbeat writes it. Rate and
// Left need not be set. change must not call the Handle.
func (h *Handle) Report(change func(*Progress)) {
	h.s.report(change)
	if h.s.opts.Reported != nil {
		h.s.opts.Reported(h.Job())
	}
}

func (s *session) report(change func(*Progress)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	phase, done := s.progress.Phase, s.progress.Done
	change(&s.progress)
	if s.progress.Phase != phase { // it counts something else from here on
		s.rate = rate{}
	}
	if len(s.progress.Streams) > MaxProgressStreams {
		s.progress.Streams = s.progress.Streams[:MaxProgressStreams]
	}
	s.progress.Streams = slices.Clone(s.progress.Streams)
	s.rate.add(s.progress.Done)
	if !s.reported && (s.progress.Phase != phase || s.progress.Done != done) { // who was killed before this one may have shown more than it had done
		s.reported, s.done = true, min(s.done, s.progress.Done)
	}
}

// SetCheckpoint replaces the checkpoint in memory; the next heartbeat, and the
// end of the attempt however it ends, write it. v is marshalled at once, to at
// most MaxCheckpoint bytes.
func (h *Handle) SetCheckpoint(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode checkpoint: %w", err)
	}
	if len(text) > MaxCheckpoint {
		return remedy.Wrap(fmt.Errorf("the checkpoint has %d bytes, more than the %d allowed", len(text), MaxCheckpoint),
			"keep what is large in the job's files, and its name in the checkpoint")
	}
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	h.s.checkpoint = text
	return nil
}

// Save writes the document now, with what was reported and the checkpoint. An
// error that wraps ErrLeaseLost says that the job is another worker's.
func (h *Handle) Save(ctx context.Context) error { return h.s.write(ctx, rand.Text(), nil) }

// Log adds an entry to the job's log; level is info, warn or error.
func (h *Handle) Log(level, message string) {
	s := h.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unwritten.add(LogEntry{Time: now(), Level: level, Message: clip(message), Worker: s.opts.Worker})
}
