// Package demo shows Reservoir at work on this machine: a shop publishes events to
// a Redis, an archiver in a process of its own archives them, is killed in the
// midst and started again. Meanwhile projections are built in ClickHouse and kept
// live, one of them with a mistake, which is corrected by a rebuild. Then the
// archive is compared with an independent record of what was published, and a part
// of it replayed into another stream. It prints nothing: what happens is told to [Options.Show].
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/redisstream"
)

// Defaults of the Options.
const (
	DefaultDuration = 15 * time.Second
	DefaultRate     = 2000
)

// Options say what to show.
type Options struct {
	// Program is the reservoir binary that is run as the archiver.
	Program string
	// Dir takes the archive, the servers' data and the logs. It must be empty, or
	// not be there; default a new temporary one.
	Dir string
	// KeepDir keeps the directory even when the demo is interrupted.
	KeepDir bool
	// Duration is how long events are published; default DefaultDuration.
	Duration time.Duration
	// Rate is how many events a second are published. Default: DefaultRate, and
	// with Input what lets the file last for Duration.
	Rate float64
	// Input is a JSONL file with the events to publish, instead of the shop's.
	Input string
	// Stream is where the events of Input go; default the file's name.
	Stream string
	// StreamField names the field of Input's events that says their stream,
	// instead of Stream.
	StreamField string
	// Show is told what happens, one Notice at a time; nil for no one.
	Show func(Notice)
}

// withDefaults returns a copy with the defaults filled in.
func (o Options) withDefaults() Options {
	if o.Duration == 0 {
		o.Duration = DefaultDuration
	}
	if o.Rate == 0 && o.Input == "" {
		o.Rate = DefaultRate
	}
	show, mu := o.Show, sync.Mutex{}
	o.Show = func(n Notice) {
		if show != nil {
			mu.Lock()
			defer mu.Unlock()
			show(n)
		}
	}
	return o
}

// Validate names the first option that cannot work.
func (o Options) Validate() error {
	switch {
	case o.Duration < 0:
		return fmt.Errorf("duration %s is negative", o.Duration)
	case o.Rate < 0:
		return fmt.Errorf("rate %v is negative", o.Rate)
	case o.Input == "" && (o.Stream != "" || o.StreamField != ""):
		return errors.New("a stream or its field goes with an input: the shop has streams of its own")
	case o.Stream != "" && o.StreamField != "":
		return errors.New("name a stream or the field that says it, not both")
	}
	return nil
}

// noTables says why there are no projections, or "".
func (o Options) noTables() string {
	switch {
	case o.Input != "":
		return "the projections are of the shop's events"
	case o.Duration < leastStory:
		return "there is no time for projections"
	default:
		return ""
	}
}

// Demo is a running demo: servers, an archiver, and what connects to them.
type Demo struct {
	opts    Options
	dir     string
	ownDir  bool // made by the demo
	source  source
	servers servers

	publisher *redis.Client // the shop's own, which knows nothing of Reservoir
	client    *redisstream.Client
	store     objectstore.Store
	archive   *archive.Archive
	archiver  *stack.Program
	programs  []*stack.Program // others that run
	books     *books           // nil: there are no tables to compare with

	keep bool // the directory, at Close
}

// Start reads the input through once, if there is one, and starts the servers. The
// caller must Close the demo.
func Start(ctx context.Context, opts Options) (_ *Demo, err error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	d := &Demo{opts: opts.withDefaults(), keep: opts.KeepDir}
	if d.source, err = openSource(ctx, d.opts); err != nil {
		return nil, err
	}
	if err := d.makeDir(); err != nil {
		return nil, errors.Join(err, d.source.close())
	}
	if err := d.start(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Demo) makeDir() (err error) {
	if d.opts.Dir == "" {
		d.ownDir = true
		d.dir, err = os.MkdirTemp("", "reservoir-demo-")
		return err
	}
	if d.dir, err = filepath.Abs(d.opts.Dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(d.dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		d.ownDir = true
		return os.MkdirAll(d.dir, 0o700)
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("directory %s is not empty: name a new one", d.dir)
	}
	return nil
}

func (d *Demo) start(ctx context.Context) (err error) {
	noTables := d.opts.noTables()
	if err := d.servers.start(ctx, d.dir, noTables == ""); err != nil {
		return err
	}
	var engine string
	if d.servers.clickhouse != nil {
		engine, d.books = d.servers.clickhouse.Addr(), newBooks()
		if err := d.writeDefinitions(); err != nil {
			return err
		}
	} else if noTables == "" {
		noTables = "no ClickHouse engine is installed: `make demo` installs one where Node's npm is"
	}
	if err := d.writeConfig(d.servers.storeKeys()); err != nil {
		return err
	}
	if d.client, err = redisstream.Connect(ctx, redisstream.Config{URL: d.servers.redis.URL()}); err != nil {
		return err
	}
	redisOptions, err := redis.ParseURL(d.servers.redis.URL())
	if err != nil {
		return err
	}
	d.publisher = redis.NewClient(redisOptions)
	if d.store, err = d.servers.openStore(ctx); err != nil {
		return err
	}
	if d.archive, err = archive.Open(ctx, d.store, archive.Options{}); err != nil {
		return err
	}
	d.archiver, err = stack.StartProgram(ctx, "the archiver", stack.ProgramOptions{
		Path: d.opts.Program,
		Args: []string{"archive", "--config", d.ConfigFile()},
		Env:  cleanEnvironment(),
		Dir:  filepath.Join(d.dir, "archiver"),
	})
	if err != nil {
		return err
	}
	d.opts.Show(Ready{
		Redis: d.servers.redis.Addr(), Store: d.servers.storeName(), S3: d.servers.s3 != nil,
		ClickHouse: engine, NoTables: noTables,
		Dir: d.dir, Pid: d.archiver.Pid(), Total: d.source.total(),
	})
	return nil
}

// Dir returns the directory that holds it all.
func (d *Demo) Dir() string { return d.dir }

// ConfigFile returns the configuration for commands to try: with the demo's servers as
// long as they are up, and with the archive's directory after Close.
func (d *Demo) ConfigFile() string { return filepath.Join(d.dir, "reservoir.yaml") }

// ArchiveDir returns the directory that holds the archive's objects.
func (d *Demo) ArchiveDir() string { return d.servers.archiveDir(d.dir) }

// Close stops all that runs. The directory stays once Run has ended by itself, and
// goes if it was interrupted, unless KeepDir is set. It can be called more than once.
func (d *Demo) Close() error {
	var errs []error
	if d.archiver != nil {
		errs = append(errs, d.archiver.Close())
	}
	for _, p := range d.programs {
		errs = append(errs, p.Close())
	}
	if d.publisher != nil {
		errs = append(errs, d.publisher.Close())
		d.publisher = nil
	}
	if d.client != nil {
		errs = append(errs, d.client.Close())
		d.client = nil
	}
	errs = append(errs, d.servers.close(), d.source.close())
	switch {
	case d.keep && d.servers.redis != nil:
		errs = append(errs, d.writeConfig(localStoreKeys(d.ArchiveDir())))
	case !d.keep:
		errs = append(errs, d.removeDir())
	}
	return errors.Join(errs...)
}

// removeDir removes what the demo made.
func (d *Demo) removeDir() error {
	if d.ownDir {
		return os.RemoveAll(d.dir)
	}
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(d.dir, e.Name())))
	}
	return err
}
