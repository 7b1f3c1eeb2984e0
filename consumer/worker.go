package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/redisstream"
)

const (
	saveEvery  = time.Second     // at most this long after events were skipped
	waitAtMost = 5 * time.Second // for an entry, before the stream is looked at again
	batchBytes = 256 << 10       // of entries that a worker reads ahead
)

var (
	errLeaseLost = errors.New("the lease could not be renewed in time")
	errTooSlow   = errors.New("the handler did not end within StopTimeout")
)

// worker handles the events of one stream, under one lease.
type worker[Tx any] struct {
	*Consumer[Tx]
	lease    lease
	at       checkpoint // committed
	stop     func()
	stopping func() bool
	err      error // of run
	moved    bool  // something was committed

	read    event.ID // dealt with; beyond at where events were skipped since
	savedAt time.Time
	ledger  redisstream.Ledger
	known   bool // the ledger's account is
	epoch   uint64
	digest  string // of the entry at read, "" when not known

	batch   event.Batch
	records records
	gauges  gauges
}

func newWorker[Tx any](c *Consumer[Tx], l lease, at checkpoint) *worker[Tx] {
	return &worker[Tx]{
		Consumer: c, lease: l, at: at, gauges: c.metrics.of(l.stream),
		records: records{stream: l.stream, extractor: c.cfg.Mapping.Extractor()},
	}
}

// run works until work ends, which is no error, or something fails. Reading stops
// at once then; the event in hand gets Config.StopTimeout.
func (w *worker[Tx]) run(work context.Context) error {
	hands, drop := context.WithCancelCause(context.WithoutCancel(work))
	reading, stopReading := context.WithCancel(hands)
	defer context.AfterFunc(work, stopReading)()
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		w.keep(work, hands, drop)
	}()
	w.gauges.working(true)
	err := w.work(reading, hands)
	w.gauges.working(false)
	if hands.Err() != nil {
		err = context.Cause(hands)
	} else if work.Err() != nil {
		err = nil
	}
	drop(nil)
	<-kept
	stopReading()
	return w.leave(work, err)
}

// leave saves what there is to save and releases the lease.
func (w *worker[Tx]) leave(work context.Context, err error) error {
	if errors.Is(err, ErrFenced) {
		return err
	}
	bye, cancel := context.WithTimeout(context.WithoutCancel(work), lastWords)
	defer cancel()
	if err == nil && w.at.position.Less(w.read) {
		err = w.save(bye)
	}
	if releaseErr := w.cfg.Store.release(bye, w.lease); !errors.Is(releaseErr, ErrFenced) {
		err = errors.Join(err, releaseErr)
	}
	return err
}

// keep renews the lease until hands ends, and makes it end when the lease is lost
// or when, after work has ended, Config.StopTimeout is over.
func (w *worker[Tx]) keep(work, hands context.Context, drop context.CancelCauseFunc) {
	tick := time.NewTicker(w.cfg.Lease / 3)
	defer tick.Stop()
	stopping := work.Done()
	var tooSlow <-chan time.Time
	renewed := time.Now()
	for {
		select {
		case <-hands.Done():
			return
		case <-stopping:
			stopping = nil
			timer := time.NewTimer(w.cfg.StopTimeout)
			defer timer.Stop()
			tooSlow = timer.C
		case <-tooSlow:
			drop(errTooSlow)
			return
		case <-tick.C:
			now := time.Now()
			ctx, cancel := context.WithTimeout(hands, w.cfg.Lease/3)
			err := w.cfg.Store.renew(ctx, w.lease, w.cfg.Lease)
			cancel()
			switch {
			case err == nil:
				renewed = now
			case errors.Is(err, ErrFenced):
				drop(err)
				return
			case time.Since(renewed) > w.cfg.Lease:
				drop(fmt.Errorf("%w: %w", errLeaseLost, err))
				return
			}
		}
	}
}

// work reads and handles until an error, be it that reading has ended.
func (w *worker[Tx]) work(reading, hands context.Context) error {
	if err := w.begin(reading, hands); err != nil {
		return err
	}
	reader, err := w.cfg.Redis.Reader(reading, w.lease.stream, redisstream.ReaderOptions{BatchBytes: batchBytes})
	if err != nil {
		return err
	}
	defer reader.Close()
	for {
		snap, err := reader.Read(reading, w.read, &w.batch)
		switch tooLarge, isTooLarge := errors.AsType[*redisstream.TooLargeError](err); {
		case errors.Is(err, redisstream.ErrNoStream):
			snap = redisstream.Snapshot{AtEnd: true} // not yet, or no longer: then its counters will tell
		case isTooLarge:
			if err := w.setAside(reading, hands, tooLarge); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		default:
			if err := w.take(reading, hands, snap); err != nil {
				return err
			}
		}
		wait := waitAtMost
		if w.at.position.Less(w.read) {
			if time.Since(w.savedAt) > saveEvery {
				if err := w.save(hands); err != nil {
					return err
				}
			}
			wait = saveEvery
		}
		if snap.AtEnd {
			if _, err := reader.Wait(reading, w.read, wait); err != nil {
				return err
			}
		}
	}
}

// begin finds out where to start.
func (w *worker[Tx]) begin(reading, hands context.Context) error {
	if !w.at.set {
		start, err := w.resolve(reading)
		if err != nil {
			return err
		}
		if err := w.commit(hands, start, nil); err != nil {
			return err
		}
	}
	w.read, w.savedAt = w.at.position, time.Now()
	if w.at.added >= 0 {
		w.known = true
		w.ledger = redisstream.Ledger{Position: w.at.position, Added: uint64(w.at.added)}
	}
	return nil
}

// resolve turns Config.Start into a position, and into an account of the entries up
// to there where Redis tells.
func (w *worker[Tx]) resolve(ctx context.Context) (checkpoint, error) {
	start := w.cfg.Start
	at := checkpoint{set: true, position: start.after, added: -1}
	info, err := w.cfg.Redis.Info(ctx, w.lease.stream)
	if err != nil && !errors.Is(err, redisstream.ErrNoStream) {
		return at, err
	}
	if start.now {
		at.position = info.LastGeneratedID
	}
	switch {
	case !at.position.Less(info.LastGeneratedID):
		at.added = int64(info.EntriesAdded)
	case at.position.Less(info.FirstID) || info.Length == 0:
		at.added = int64(info.EntriesAdded - info.Length)
	}
	return at, nil
}

// take deals with a batch that was read.
func (w *worker[Tx]) take(reading, hands context.Context, snap redisstream.Snapshot) error {
	if err := w.sameHistory(reading, snap); err != nil {
		return err
	}
	n := w.batch.Len()
	var before, after *redisstream.Loss
	if w.known {
		var err error
		if before, after, err = w.ledger.Observe(snap, &w.batch); err != nil {
			return err
		}
		w.lost(hands, before)
		w.lost(hands, after)
	}
	w.gauges.lag(snap, &w.ledger, w.known, n)
	if err := w.handleBatch(reading, hands); err != nil {
		return err
	}
	if n > 0 {
		var last event.Event
		w.batch.Event(n-1, &last)
		w.digest, w.read = event.Digest(&last), last.ID
	}
	if !w.known && snap.HasInfo && snap.AtEnd {
		w.known = true
		w.ledger = redisstream.Ledger{Position: w.read, Added: snap.Info.EntriesAdded}
	}
	w.gauges.lag(snap, &w.ledger, w.known, 0)
	if after != nil { // which the account of no event holds
		return w.save(hands)
	}
	return nil
}

// sameHistory makes sure that the entry that was read last is not another one by now:
// whenever it is the stream's last, and when Redis may be another one than at the last
// read. Then that it is not there, and Redis does not say why, tells as much.
func (w *worker[Tx]) sameHistory(ctx context.Context, snap redisstream.Snapshot) error {
	if w.digest != "" && snap.HasInfo && snap.Info.LastID == w.read && snap.Info.LastDigest != w.digest {
		return redisstream.ErrHistoryReplaced
	}
	if snap.Epoch == w.epoch {
		return nil
	}
	if w.digest != "" {
		info, digest, err := w.cfg.Redis.InfoAt(ctx, w.lease.stream, w.read)
		if err != nil {
			return err
		}
		if digest != w.digest && (digest != "" || !info.Explains(w.read)) {
			return redisstream.ErrHistoryReplaced
		}
	}
	w.epoch = snap.Epoch
	return nil
}

func (w *worker[Tx]) lost(ctx context.Context, l *redisstream.Loss) {
	if l == nil {
		return
	}
	w.gauges.lost(l.Lost)
	if w.cfg.Lost != nil {
		w.cfg.Lost(ctx, w.lease.stream, *l)
		return
	}
	w.cfg.Logger.Error("entries were lost before the consumer read them", "consumer", w.lease.consumer, "stream", w.lease.stream,
		"lost", l.Lost, "after", l.After, "up_to", l.UpTo, "cause", l.Cause)
}

// setAside puts an entry that is too large to read among the dead letters, without
// its fields, and passes it.
func (w *worker[Tx]) setAside(reading, hands context.Context, e *redisstream.TooLargeError) error {
	if err := reading.Err(); err != nil {
		return err
	}
	to := checkpoint{set: true, position: e.ID, added: -1}
	if w.known {
		w.ledger = redisstream.Ledger{Position: e.ID, Added: w.ledger.Added + 1}
		to.added = int64(w.ledger.Added)
	}
	d := deadLetterOf(&Record{Stream: w.lease.stream, ID: e.ID, Attempt: 1}, e)
	if err := w.commit(hands, to, d); err != nil {
		return err
	}
	w.read, w.digest = e.ID, ""
	return nil
}

// save commits the position where only skipped events lie beyond the last commit.
func (w *worker[Tx]) save(ctx context.Context) error {
	to := checkpoint{set: true, position: w.read, added: -1}
	if w.known {
		to.added = int64(w.ledger.Added)
	}
	return w.commit(ctx, to, nil)
}
