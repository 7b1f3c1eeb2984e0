package sink

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/replay"
)

// fileMode is the mode of files that replays make.
const fileMode = 0o644

// fileSink writes to a file. Each batch is made in this order, under the file's
// lock: look whether the mark still is this attempt's, write the batch after what
// counts, fsync it, replace the mark. A crash before the mark leaves bytes that
// do not count; an attempt with a lower epoch finds the mark of the next one and
// writes nothing.
type fileSink struct {
	place   *filePlace
	file    *os.File
	mark    fileMark
	encoder *encoder
	buf     []byte
}

// takeOver opens the file, for this attempt alone.
func (s *fileSink) takeOver(ctx context.Context, o *fileOptions, opening *replay.Opening) (err error) {
	s.file, err = s.place.root.OpenFile(s.place.name, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return err
	}
	return s.locked(ctx, func() error {
		stat, err := s.file.Stat()
		if err != nil {
			return err
		}
		mark, err := s.place.readMark()
		switch {
		case err != nil:
			return err
		case mark == nil:
			err = s.begin(stat, o, opening)
		case mark.Job != opening.Replay:
			return s.place.foreign(mark)
		case mark.Epoch > opening.Epoch:
			return fmt.Errorf("epoch %d: %w", mark.Epoch, replay.ErrFenced)
		case mark.Offset > stat.Size():
			return remedy.Wrapf(fmt.Errorf("it has %d bytes, of which the replay wrote %d: it was changed or removed meanwhile", stat.Size(), mark.Offset),
				"Restore the file, or cancel this replay and start it again.")
		default:
			s.mark = *mark
		}
		if err != nil {
			return err
		}
		s.mark.Epoch = opening.Epoch
		return s.cut(stat.Size())
	})
}

// begin makes the mark of a replay that has written nothing yet.
func (s *fileSink) begin(stat os.FileInfo, o *fileOptions, opening *replay.Opening) error {
	if err := s.place.mayBegin(stat, o); err != nil {
		return err
	}
	s.mark = fileMark{Version: markVersion, Job: opening.Replay}
	if !o.Append || stat.Size() == 0 {
		return nil
	}
	s.mark.Offset = stat.Size()
	var last [1]byte
	if _, err := s.file.ReadAt(last[:], stat.Size()-1); err != nil {
		return err
	}
	if last[0] != '\n' {
		return remedy.Wrap(errors.New("its last line is not whole: it has no line feed"), "Repair the end of the file, or choose another one.")
	}
	return nil
}

// cut makes the mark, and cuts off what it does not count.
func (s *fileSink) cut(size int64) error {
	if err := s.place.writeMark(&s.mark); err != nil {
		return err
	}
	if size == s.mark.Offset {
		return nil
	}
	if err := s.file.Truncate(s.mark.Offset); err != nil {
		return err
	}
	return s.file.Sync()
}

// locked calls f under the file's lock, if the name still is that of the file.
func (s *fileSink) locked(ctx context.Context, f func() error) (err error) {
	if err := lockFile(ctx, s.file); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlockFile(s.file)) }()
	named, err := s.place.root.Stat(s.place.name)
	if err != nil {
		return err
	}
	open, err := s.file.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(named, open) {
		return errors.New("the file was replaced by another one while the replay wrote it")
	}
	return f()
}

// Position implements replay.Sink.
func (s *fileSink) Position(context.Context) (replay.Position, error) { return s.mark.Position, nil }

// Records implements replay.Recorder.
func (s *fileSink) Records() bool { return true }

// Write implements replay.Sink.
func (s *fileSink) Write(ctx context.Context, b *replay.Batch) error {
	s.buf = s.buf[:0]
	next := s.mark
	rejected, err := appendLines(&s.buf, s.encoder, b, s.mark.Position, &next.Position)
	switch {
	case err != nil || next.Position == s.mark.Position:
		return err
	case len(rejected) > 0: // the mark must not be beyond them yet
		return &replay.RejectedError{Events: rejected, Unwritten: true}
	}
	next.Offset += int64(len(s.buf))
	err = s.locked(ctx, func() error {
		mark, err := s.place.readMark()
		if err != nil {
			return err
		}
		if mark == nil || *mark != s.mark {
			return replay.ErrFenced
		}
		if _, err := s.file.WriteAt(s.buf, s.mark.Offset); err != nil {
			return err
		}
		if err := s.file.Sync(); err != nil {
			return err
		}
		return s.place.writeMark(&next)
	})
	if full(err) {
		err = remedy.Wrap(fmt.Errorf("%w: %w", replay.ErrUnavailable, err), "Make space on the disk, then resume the replay.")
	}
	if err != nil {
		return fmt.Errorf("write file %s: %w", s.place.path, err)
	}
	s.mark = next
	return nil
}

// appendLines appends a line for each event of the batch after a position, and
// moves last to the batch's end. What has no line is rejected.
func appendLines(dst *[]byte, x *encoder, b *replay.Batch, after replay.Position, last *replay.Position) (rejected []replay.Rejection, err error) {
	if len(b.Origins) != b.Len() {
		return nil, fmt.Errorf("a batch of %d events has %d origins", b.Len(), len(b.Origins))
	}
	var e event.Event
	for i := range b.Len() {
		o := &b.Origins[i]
		if o.Compare(after) <= 0 {
			continue
		}
		b.Event(i, &e)
		line, err := x.append(*dst, &e, o)
		if err != nil {
			rejected = append(rejected, replay.Rejection{Index: i, Attempts: 1, Err: err})
		} else {
			*dst = append(line, '\n')
		}
		*last = o.Position
	}
	return rejected, nil
}

// Close implements replay.Sink.
func (s *fileSink) Close() error {
	var err error
	if s.file != nil {
		err = s.file.Close()
		s.file = nil
	}
	if s.place.root != nil {
		err = errors.Join(err, s.place.root.Close())
		s.place.root = nil
	}
	return err
}
