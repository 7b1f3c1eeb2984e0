package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/tail"
)

const eventsHelp = `Read events from the archive, in order. Several streams come one after another.

Ends of a range are IDs, milliseconds, RFC 3339 times, days, or "2h ago"; both belong to the range. --where is a condition in the language of
expr-lang.org on id, ms, type, tenant, aggregate_type, aggregate_id, event_id, version, occurred_at, payload and fields.

With --follow it goes on in Redis where the archive ends, and waits for what comes: nothing is missing at the seam, nothing comes twice.
Streams that a pattern selects are looked for once, at the beginning.
Output: jsonl for programs (envelope and payload as JSON; of a name that repeats only the first value, bytes that are no text replaced),
table for people (the default on a terminal), raw for the exact entries, which
"reservoir import --keep-ids" restores. A stream that was deleted and made anew, or went back to an older state, has incarnations, which come one
after the other; --incarnation chooses one by its number, or the stream as it was last. A range in which entries were lost is warned about on standard error.`

const eventsExample = `  reservoir events --stream orders --from '2h ago' --type 'OrderPaid'
  reservoir events --stream orders --aggregate order/4711             what happened to order 4711
  reservoir events --stream 'shop:*' --where 'payload.total > 100' --output jsonl | jq .payload
  reservoir events --stream orders --follow --output table
  reservoir events --stream orders --incarnation last --output raw | reservoir import - --stream orders-copy --keep-ids`

// followEvery is how often streams that are followed are looked at.
const followEvery = 200 * time.Millisecond

// batchesPerTurn is how much of a busy stream is written before another one's
// turn.
const batchesPerTurn = 64

// eventsSpec is the command line of the command.
type eventsSpec struct {
	patterns      []string
	from, to      string
	filter        event.Filter
	limit         uint64
	follow, stats bool
	output        string
	format        string
	incarnation   string // "", a number or "last"
}

func newEventsCmd(app *app) *cobra.Command {
	var spec eventsSpec
	cmd := &cobra.Command{
		Use:     "events",
		Short:   "Read events from the archive, and follow the live stream",
		Long:    eventsHelp,
		Example: eventsExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := app.readEvents(cmd.Context(), &spec)
			if errors.Is(err, syscall.EPIPE) {
				return nil // whoever reads has had enough
			}
			return err
		},
	}
	flags := cmd.Flags()
	streamFlag(flags, &spec.patterns, " to read")
	rangeFlags(flags, &spec.from, &spec.to)
	filterFlags(flags, &spec.filter)
	flags.Uint64Var(&spec.limit, "limit", 0, "stop after this many events; 0: do not stop")
	flags.BoolVarP(&spec.follow, "follow", "f", false, "go on into the live stream, and wait for more")
	flags.StringVarP(&spec.output, "output", "o", "", "jsonl, table or raw (default table on a terminal, else jsonl)")
	flags.StringVar(&spec.format, "format", "parquet", "what to read of the archive: parquet or jsonl")
	flags.StringVar(&spec.incarnation, "incarnation", "", "`which` life of the stream: its number, or last for the stream as it was last (default all, one after the other)")
	flags.BoolVar(&spec.stats, "stats", false, "say on standard error how much was read")
	return cmd
}

// rangeFlags adds --from and --to.
func rangeFlags(flags *pflag.FlagSet, from, to *string) {
	flags.StringVar(from, "from", "", "`start` of the range: an ID, a time, a day or '2h ago'")
	flags.StringVar(to, "to", "", "`end` of the range, which belongs to it")
}

// eventsRun is one run of the command.
type eventsRun struct {
	*app
	spec   *eventsSpec
	within event.Range
	filter *event.Matcher // nil: all

	arch   *archive.Archive
	all    *archive.Archive    // the same; what it reads is not counted
	client *redisstream.Client // nil unless following
	out    *eventWriter
	live   bool // every archive was read: streams take turns
	count  uint64
	read   readStats
}

// readStats counts what was read of the archive.
type readStats struct {
	bytes, gets       atomic.Int64
	segments, planned uint64 // of the streams; those that may hold what is wanted
	stored            int64  // bytes of segments
}

var errEnough = errors.New("enough events") // --limit

func (a *app) readEvents(ctx context.Context, spec *eventsSpec) (err error) {
	r := &eventsRun{app: a, spec: spec}
	if err := r.check(); err != nil {
		return err
	}
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	if spec.stats {
		if r.all, err = archive.Open(ctx, store, a.archiveOptions()); err != nil {
			return err
		}
		store = objectstore.WithObserver(store, func(op string, _ time.Duration, bytes int64, _ error) {
			if op == "get" {
				r.read.bytes.Add(bytes)
				r.read.gets.Add(1)
			}
		})
	}
	if r.arch, err = archive.Open(ctx, store, a.archiveOptions()); err != nil {
		return err
	}
	if spec.follow {
		if r.client, err = a.connectRedis(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.client.Close()) }()
	}
	streams, err := r.streams(ctx)
	if err != nil {
		return err
	}
	if len(streams) > 1 && spec.output == "raw" {
		return usagef("raw output is of one stream, and --stream selects %d", len(streams))
	}
	out := bufio.NewWriterSize(a.stdout, 64<<10)
	r.out = newEventWriter(out, spec.output, a.cfg.Envelope, len(streams) > 1 || len(spec.patterns) > 1)
	began := time.Now()
	err = r.run(ctx, streams)
	if errors.Is(err, errEnough) {
		err = nil
	}
	if flushErr := out.Flush(); flushErr != nil && err == nil {
		err = fmt.Errorf("write output: %w", flushErr)
	}
	if spec.stats {
		r.printStats(time.Since(began))
	}
	return err
}

// check reads the command line.
func (r *eventsRun) check() (err error) {
	s := r.spec
	if len(s.patterns) == 0 {
		return usagef("which stream? Give --stream NAME, or --stream '*' for all")
	}
	if r.within, err = event.ParseRange(s.from, s.to, time.Now()); err != nil {
		return usageError{err}
	}
	if !s.filter.IsZero() {
		if r.filter, err = s.filter.Compile(); err != nil {
			return usageError{err}
		}
	}
	if s.output == "" {
		s.output = map[bool]string{true: "table", false: "jsonl"}[r.terminal]
	}
	if !slices.Contains([]string{"jsonl", "table", "raw"}, s.output) {
		return usagef("--output %q is not known: want jsonl, table or raw", s.output)
	}
	if f := archive.Format(s.format); f != archive.Parquet && f != archive.JSONL {
		return usagef("--format %q is not known: want parquet or jsonl", s.format)
	}
	return s.checkIncarnation()
}

// streams gives those of the archive and, when following, those in Redis.
func (r *eventsRun) streams(ctx context.Context) ([]string, error) {
	if r.client == nil {
		return archivedStreams(ctx, r.arch, r.spec.patterns)
	}
	return archiver.Streams(ctx, r.client, r.arch, r.spec.patterns, nil)
}

// run reads every stream to its end and then, following, goes round for what
// has come since.
func (r *eventsRun) run(ctx context.Context, streams []string) error {
	tails := make([]*tail.Tail, 0, len(streams))
	defer func() {
		for _, t := range tails {
			t.Close()
		}
	}()
	for _, stream := range streams {
		if err := r.countAll(ctx, stream); err != nil {
			return err
		}
		t := r.tail(stream)
		tails = append(tails, t)
		read := func() error { _, err := r.drain(ctx, stream, t.Batches(ctx)); return err }
		if r.spec.incarnation != "" || r.spec.output == "raw" && !r.spec.follow {
			read = func() error { return r.readParts(ctx, stream) }
		}
		if err := read(); err != nil {
			return err
		}
	}
	if !r.spec.follow {
		return nil
	}
	r.live = true
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for more, ended := false, false; !ended; {
		if err := r.out.flush(); err != nil {
			return err
		}
		if !more {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
		}
		more, ended = false, true
		for i, t := range tails {
			left, err := r.drain(ctx, streams[i], t.Batches(ctx))
			if err != nil {
				return err
			}
			t.Close() // its connection is for the others
			more, ended = more || left, ended && t.Done()
		}
	}
	return nil
}

func (r *eventsRun) tail(stream string) *tail.Tail {
	return tail.New(r.arch, r.client, tail.Spec{
		Stream: stream, Range: r.within, Filter: r.filter, Mapping: r.cfg.Envelope, Format: archive.Format(r.spec.format),
		Planned: r.planned,
		Lost: func(l redisstream.Loss) {
			r.warn("%s: %d entries after %s and up to %s were gone from Redis before they were read (%s)", stream, l.Lost, l.After, l.UpTo, l.Cause)
		},
	})
}

// drain writes what a stream has by now, or a part of it when others are
// followed too. While following, a Redis that cannot be reached is waited for.
func (r *eventsRun) drain(ctx context.Context, stream string, batches iter.Seq2[archive.Batch, error]) (left bool, err error) {
	var e event.Event
	turn := 0
	for b, err := range batches {
		if err != nil {
			switch {
			case ctx.Err() != nil:
				return false, ctx.Err()
			case errors.Is(err, redisstream.ErrUnreachable) || errors.Is(err, redisstream.ErrLoading):
				r.logger.Warn("redis cannot be reached: trying again", "error", r.cfg.Redact(err.Error()))
				return false, nil
			case errors.Is(err, redisstream.ErrHistoryReplaced):
				return false, remedy.Wrap(err, "start again once the archiver has archived the new history")
			}
			return false, err
		}
		for i := range b.Len() {
			b.Event(i, &e)
			if err := r.out.write(stream, &e); err != nil {
				return false, err
			}
			if r.count++; r.count == r.spec.limit {
				return false, errEnough
			}
		}
		if turn++; turn == batchesPerTurn && r.live {
			return true, nil
		}
	}
	return false, nil
}

// planned warns about losses inside the range.
func (r *eventsRun) planned(ctx context.Context, plan *archive.Plan) error {
	r.read.planned += plan.Totals.Segments
	if plan.Totals.Gaps == 0 {
		return nil
	}
	for g, err := range plan.Gaps(ctx) {
		if err != nil {
			return err
		}
		lost := fmt.Sprint(g.Lost)
		if !g.Exact {
			lost = "at least " + lost
		}
		r.warn("%s: %s entries after %s and up to %s were lost before they were archived (%s)", plan.Stream(), lost, g.After, g.UpTo, g.Cause)
	}
	return nil
}

func (r *eventsRun) warn(format string, args ...any) {
	fmt.Fprintf(r.stderr, "warning: %s\n", cellText.Replace(fmt.Sprintf(format, args...)))
}

// countAll counts for --stats what the archive holds of a stream.
func (r *eventsRun) countAll(ctx context.Context, stream string) error {
	if !r.spec.stats {
		return nil
	}
	plan, err := r.all.Plan(ctx, archive.PlanSpec{Stream: stream, Format: archive.Format(r.spec.format)})
	if err != nil {
		return err
	}
	r.read.segments += plan.Totals.Segments
	r.read.stored += plan.Totals.Bytes
	return nil
}

func (r *eventsRun) printStats(took time.Duration) {
	s := &r.read
	var share strings.Builder
	if s.stored > 0 {
		fmt.Fprintf(&share, " (%.1f %%)", 100*float64(s.bytes.Load())/float64(s.stored))
	}
	fmt.Fprintf(r.stderr, "stats: %s events in %s; read %s, logs included, of %s%s in %d requests; %d of %d segments, %d pruned\n",
		humanCount(r.count), humanDuration(took), humanBytes(s.bytes.Load()), humanBytes(s.stored), share.String(), s.gets.Load(),
		s.planned, s.segments, s.segments-min(s.segments, s.planned))
}
