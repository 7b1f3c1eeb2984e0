package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/archive/jsonl"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/redisstream"
)

const importHelp = `Add the entries of a file to a stream in Redis, in order. FILE is JSON lines, or those compressed with zstd; - is standard input.

It takes what "reservoir events --output raw" writes and what the archive's JSONL segments are, and lines that are plain JSON objects: each
member then is a field. Without --keep-ids Redis gives new IDs.

--keep-ids restores a stream: entries keep their IDs, which must go up. It can be run again after it was interrupted: what is in the stream
already and is the same is skipped; what is there and is different is an error. A stream that holds something else before the file's end
is refused, unless --force is given: then others may be there too, such as those of an earlier file of the same stream. Redis adds nothing
below a stream's last ID, with --force neither.`

const importExample = `  reservoir import orders.jsonl --stream orders-copy
  reservoir import segment.jsonl.zst --stream orders --keep-ids
  reservoir events --stream orders --output raw | reservoir import - --stream orders-copy --keep-ids`

func newImportCmd(app *app) *cobra.Command {
	var (
		stream string
		opts   redisstream.ImportOptions
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:     "import FILE.jsonl|FILE.jsonl.zst|-",
		Short:   "Add the entries of a JSONL file to a stream in Redis",
		Long:    importHelp,
		Example: importExample,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if stream == "" {
				return usagef("into which stream? Give --stream NAME")
			}
			if opts.Among && !opts.KeepIDs {
				return usagef("--force goes with --keep-ids: entries with new IDs can be added to any stream")
			}
			return app.importFile(cmd.Context(), args[0], stream, opts, asJSON)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&stream, "stream", "", "`name` of the stream to add to")
	flags.BoolVar(&opts.KeepIDs, "keep-ids", false, "entries keep their IDs")
	flags.BoolVar(&opts.Among, "force", false, "with --keep-ids: into a stream that has other entries too")
	flags.BoolVar(&asJSON, "json", false, "print the summary as JSON")
	return cmd
}

// imported is what one import did.
type imported struct {
	Stream  string        `json:"stream"`
	Added   int64         `json:"added"`
	Skipped int64         `json:"skipped"` // they were there already
	Bytes   int64         `json:"bytes"`   // of names and values
	Took    time.Duration `json:"took_ns"`
}

// importProgress may be read while the import is going on.
type importProgress struct {
	added, skipped, bytes atomic.Int64
	read, size            atomic.Int64 // of the file; size 0: not known
}

func (a *app) importFile(ctx context.Context, file, stream string, opts redisstream.ImportOptions, asJSON bool) (err error) {
	progress := &importProgress{}
	in, closeInput, err := a.openInput(ctx, file, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeInput()) }()
	client, err := a.connectRedis(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	importer, err := client.Importer(ctx, stream, opts)
	if err != nil {
		return err
	}
	defer importer.Close()
	began := time.Now()
	line := a.newStatusLine(func() string { return progress.text(time.Since(began)) })
	err = importEvents(ctx, in, importer, progress)
	line.close()
	sum := imported{stream, progress.added.Load(), progress.skipped.Load(), progress.bytes.Load(), time.Since(began)}
	if ctx.Err() != nil { // the error is told without how far it came
		fmt.Fprintf(a.stderr, "import stopped: %d entries were added, %d were there already\n", sum.Added, sum.Skipped)
	}
	if err != nil {
		return importFailed(err, file, sum, opts)
	}
	if asJSON {
		return a.printJSON(sum)
	}
	skipped := ""
	if sum.Skipped > 0 {
		skipped = fmt.Sprintf("; %s were there already", humanCount(sum.Skipped))
	}
	return a.printf("added %s entries (%s) to %s in %s (%s)%s\n", humanCount(sum.Added), humanBytes(sum.Bytes),
		cellText.Replace(stream), humanDuration(sum.Took), humanRate(sum.Added, sum.Took), skipped)
}

// importFailed says how far the import came, and how to go on.
func importFailed(err error, file string, sum imported, opts redisstream.ImportOptions) error {
	if sum.Added+sum.Skipped == 0 && !opts.KeepIDs {
		return fmt.Errorf("import %s: nothing was added: %w", file, err)
	}
	failed := fmt.Errorf("import %s: after %d entries: %w", file, sum.Added+sum.Skipped, err)
	var (
		syntax  *jsonl.SyntaxError
		refused *redisstream.ImportError
	)
	switch {
	case errors.Is(err, redisstream.ErrNoID):
		return remedy.Wrap(failed, "leave out --keep-ids: Redis gives IDs then")
	case errors.Is(err, redisstream.ErrNotEmpty):
		return remedy.Wrap(failed, "import into another stream, or give --force to restore among the entries that are there")
	case errors.Is(err, redisstream.ErrIDTooLow):
		return remedy.Wrap(failed, "Redis takes no entries below a stream's last ID: import into another stream")
	case opts.KeepIDs && (errors.As(err, &syntax) || errors.As(err, &refused)):
		return remedy.Wrap(failed, "mend the line and run the same command again: what was added is skipped then")
	case remedyOf(err) != "":
		return remedy.Wrap(failed, remedyOf(err))
	case opts.KeepIDs:
		return remedy.Wrap(failed, "run the same command again: what was added is skipped then")
	default:
		return failed
	}
}

// lineError says where in the file an error is.
type lineError struct {
	line int64
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

// importEvents adds what in holds, one batch after the other.
func importEvents(ctx context.Context, in io.Reader, importer *redisstream.Importer, progress *importProgress) error {
	reader, err := jsonl.NewReader(in)
	if err != nil {
		return err
	}
	var b event.Batch
	for {
		if err := reader.Read(&b); err == io.EOF { //nolint:errorlint // wrapped, it would not be the clean end
			return nil
		} else if err != nil {
			return err
		}
		added, skipped, err := importer.Add(ctx, &b)
		progress.added.Add(int64(added))
		progress.skipped.Add(int64(skipped))
		progress.bytes.Add(int64(b.RangeBytes(skipped, skipped+added)))
		var refused *redisstream.ImportError
		if errors.As(err, &refused) {
			return &lineError{reader.Line(refused.Index), err}
		}
		if err != nil {
			return err
		}
	}
}

func (p *importProgress) text(took time.Duration) string {
	added, skipped := p.added.Load(), p.skipped.Load()
	text := fmt.Sprintf("importing: %s added (%s), %s", humanCount(added), humanRate(added, took), humanBytes(p.bytes.Load()))
	if skipped > 0 {
		text += fmt.Sprintf(", %s there already", humanCount(skipped))
	}
	if size := p.size.Load(); size > 0 {
		text += fmt.Sprintf(", %.0f %% of the file", 100*float64(p.read.Load())/float64(size))
	}
	return text
}

// openInput opens a file or standard input. Reading it ends with ctx.
func (a *app) openInput(ctx context.Context, file string, progress *importProgress) (io.Reader, func() error, error) {
	if file == "-" {
		return &countedInput{ctx: ctx.Err, in: a.stdin, n: &progress.read}, func() error { return nil }, nil
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		err = remedy.Wrap(err, "check the path; - reads standard input")
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		if err == nil {
			err = fmt.Errorf("%s is a directory: name a file", file)
		}
		return nil, nil, errors.Join(err, f.Close())
	}
	if info.Mode().IsRegular() {
		progress.size.Store(info.Size())
	}
	return &countedInput{ctx: ctx.Err, in: f, n: &progress.read}, f.Close, nil
}

// countedInput counts what is read.
type countedInput struct {
	ctx func() error
	in  io.Reader
	n   *atomic.Int64
}

func (c *countedInput) Read(p []byte) (int, error) {
	if err := c.ctx(); err != nil {
		return 0, err
	}
	n, err := c.in.Read(p)
	c.n.Add(int64(n))
	return n, err
}
