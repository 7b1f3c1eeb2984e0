package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
)

// checkpointVersion is the version of checkpoint that this program writes.
const checkpointVersion = 1

// checkpoint is where an attempt goes on. Everything is read again from the
// mark, whose counts are those of everything up to there, and what is up to Sent,
// or up to the sink's own Position, is counted and not sent again. So the counts
// are exact after any crash.
type checkpoint struct {
	Version int `json:"version"`
	mark
	// Earlier are older marks, newest first: for a target that has lost what it
	// had, and knows it.
	Earlier []mark `json:"earlier,omitempty"`
	// Sent is up to where everything was dealt with, and Written the last event of
	// that which the sink took.
	Sent    Position `json:"sent"`
	Written Position `json:"written"`
	// Rejected counts the events up to Sent that the sink rejected.
	Rejected uint64 `json:"rejected,omitempty"`
	// Lap is the run of live events that is replayed, where several streams are
	// followed.
	Lap      *lap  `json:"lap,omitempty"`
	LapBegin *mark `json:"lap_begin,omitempty"` // the mark before the lap
	Bytes    int64 `json:"bytes_read,omitempty"`
	Finished bool  `json:"finished,omitempty"`
}

// mark is a place between two chunks, and what was counted up to there.
type mark struct {
	From     Position      `json:"from"`
	Chunks   uint64        `json:"chunks"`
	Read     uint64        `json:"read"`
	Selected uint64        `json:"selected"`
	Letters  uint64        `json:"letters,omitempty"` // set aside before they were sent
	Streams  []streamCount `json:"streams,omitempty"`
}

const (
	markEvery   = 512 // chunks between the marks that are kept
	markEarlier = 2   // how many of them
)

// passed moves the mark behind a chunk.
func (p *checkpoint) passed(c *chunk) {
	if p.Chunks%markEvery == 0 {
		old := p.mark
		old.Streams = slices.Clone(old.Streams)
		p.Earlier = append([]mark{old}, p.Earlier[:min(len(p.Earlier), markEarlier-1)]...)
	}
	p.From = c.end
	p.Chunks++
	p.Read += c.read
	p.Selected += uint64(len(c.Origins) + len(c.letters))
	p.Letters += uint64(len(c.letters))
	for len(p.Streams) < len(c.perStream) {
		p.Streams = append(p.Streams, streamCount{})
	}
	for i, n := range c.perStream {
		p.Streams[i].Read += n.Read
		p.Streams[i].Selected += n.Selected
	}
	p.dealtWith(c.end)
}

// dealtWith moves Sent on.
func (p *checkpoint) dealtWith(to Position) {
	if p.Sent.Compare(to) < 0 {
		p.Sent = to
	}
}

// wrote moves Written and Sent on.
func (p *checkpoint) wrote(to Position) {
	if p.Written.Compare(to) < 0 {
		p.Written = to
	}
	p.dealtWith(to)
}

// enter begins a lap: what is before it is not read any more.
func (p *checkpoint) enter(l *lap) {
	begin := p.mark
	begin.Streams = slices.Clone(begin.Streams)
	p.Lap, p.LapBegin, p.Earlier = l, &begin, nil
}

// canGoBack says whether backTo can go back to a place: of the live events only
// those of the present lap are read again.
func (p *checkpoint) canGoBack(place Position) bool {
	return p.Lap == nil || p.LapBegin != nil && p.LapBegin.From.Compare(place) <= 0
}

// backTo goes back to the last mark that is not beyond a place: the target has
// everything up to there only.
func (p *checkpoint) backTo(place Position) {
	p.Sent, p.Written = place, place
	if p.Lap != nil {
		if p.From.Compare(place) > 0 {
			p.mark = *p.LapBegin
			p.Streams = slices.Clone(p.Streams)
		}
		return
	}
	for p.From.Compare(place) > 0 {
		if len(p.Earlier) == 0 {
			p.mark = mark{}
			return
		}
		p.mark, p.Earlier = p.Earlier[0], p.Earlier[1:]
	}
}

// The phases of a replay, in jobs.Progress.Phase.
const (
	phaseReplaying = "replaying"
	phaseFollowing = "following"
	phaseFinishing = "finishing"
)

// report shows where the replay is: at the checkpoint, and beyond its mark by so
// many events of a chunk and so many of its letters.
func (p *checkpoint) report(to *jobs.Progress, streams []StreamRange, events, letters uint64) {
	to.Done, to.Selected = p.Read+events+letters, p.Selected+events+letters
	to.DeadLetters = p.Letters + p.Rejected + letters
	to.BytesRead = p.Bytes
	if !p.Sent.IsZero() {
		to.Position = p.Sent.String()
	}
	n := min(len(streams), jobs.MaxProgressStreams)
	if len(to.Streams) != n {
		to.Streams = make([]jobs.StreamProgress, n)
	}
	for i := range to.Streams {
		to.Streams[i].Stream = streams[i].Stream
		if i < len(p.Streams) {
			to.Streams[i].Done, to.Streams[i].Selected = p.Streams[i].Read, p.Streams[i].Selected
		}
	}
}

// beyond counts the events beyond the checkpoint's mark that are dealt with, and the
// letters among what was set aside before it could be sent.
func (r *run) beyond() (events, letters uint64) {
	c := r.hand
	if c == nil {
		return r.before[0], r.before[1]
	}
	for i := range c.Origins {
		if c.Origins[i].Position.Compare(r.cp.Sent) <= 0 {
			events++
		}
	}
	for _, l := range c.letters {
		if l.letter.Position.Compare(r.cp.Sent) <= 0 {
			letters++
		}
	}
	return events, letters
}

// progress reports now and then.
func (r *run) progress(events, letters uint64) error {
	if time.Since(r.reported) < reportEvery {
		return nil
	}
	return r.report(events, letters)
}

// report hands the job its progress and its checkpoint.
func (r *run) report(events, letters uint64) error {
	r.reported = time.Now()
	r.h.Report(func(p *jobs.Progress) {
		p.Phase, p.Holding = r.phase, r.holding
		p.Total, p.BytesTotal, p.Exact = r.frozen.Events, r.frozen.Bytes, r.spec.Filter.IsZero()
		if r.spec.Limit > 0 {
			p.Total, p.Exact = min(p.Total, r.spec.Limit), false
		}
		if r.spec.Follow {
			p.Total, p.BytesTotal, p.Exact = 0, 0, false
		}
		if r.cp.Finished {
			p.Total, p.Exact = r.cp.Read, true
		}
		r.cp.report(p, r.frozen.Streams, events, letters)
	})
	if err := r.h.SetCheckpoint(&r.cp); err != nil {
		return fmt.Errorf("set the checkpoint of the replay: %w", err)
	}
	return nil
}

// holds tells the job why it waits, "" when it does not.
func (r *run) holds(reason string) {
	if reason != r.holding {
		r.holding = reason
		r.h.Report(func(p *jobs.Progress) { p.Holding = reason })
	}
}

// saveSent saves the job when a sink without a record has taken enough since the
// last time: a crash repeats no more.
func (r *run) saveSent(ctx context.Context, n, bytes int, events, letters uint64) error {
	if r.records {
		return nil
	}
	r.unsaved += n
	r.unsavedBytes += bytes
	// A crash also repeats the batch that is on its way by then.
	if r.unsaved <= maxBatchEvents/2 && r.unsavedBytes <= maxBatchBytes/2 && time.Since(r.savedAt) < saveEvery {
		return nil
	}
	if err := r.report(events, letters); err != nil {
		return err
	}
	return r.save(ctx)
}

// save writes the job's document.
func (r *run) save(ctx context.Context) error {
	if err := r.h.Save(ctx); err != nil {
		if errors.Is(err, jobs.ErrLeaseLost) || context.Cause(ctx) != nil {
			return fmt.Errorf("save the replay: %w", err)
		}
		return jobs.Retry(fmt.Errorf("save the replay: %w", err))
	}
	r.unsaved, r.unsavedBytes, r.savedAt = 0, 0, time.Now()
	return nil
}

// finish does what comes after the last event.
func (r *run) finish(ctx context.Context) error {
	r.phase = phaseFinishing
	err := r.withSink(ctx, func(ctx context.Context) error {
		if f, ok := r.sink.(Finisher); ok {
			return f.Finish(ctx)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("finish the replay: %w", err)
	}
	if err := r.closeSink(); err != nil {
		return fmt.Errorf("close the sink: %w", err)
	}
	if total := r.frozen.Bytes; total > 0 && !r.spec.Follow {
		r.h.Log("info", fmt.Sprintf("read %d of the %d bytes that hold the range", r.cp.Bytes, total))
	}
	r.cp.Finished = true
	if err := r.report(0, 0); err != nil {
		return err
	}
	return r.save(ctx)
}

// clean has the sink remove what is of no use any more. Where it fails nothing
// is lost.
func (r *run) clean(ctx context.Context) error {
	if err := r.removeTaken(ctx, Position{}); err != nil {
		return readError(err)
	}
	if err := r.kind.Clean(ctx, r.opening); err != nil {
		r.h.Log("warn", fmt.Sprintf("clean up at the target: %v", err))
	}
	return context.Cause(ctx)
}
