package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/reservoirhq/reservoir/config"
	"github.com/reservoirhq/reservoir/internal/demo"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/jobs"
)

const demoHelp = `Show Reservoir at work on this machine, in about 25 seconds. It starts a redis-server and an S3 server of its own (a directory takes
the place of S3 where none is installed), lets a shop publish events, and archives them while they come. In the midst the archiver is killed
with kill -9, a stream is trimmed behind its back, and it is started again. Where the ClickHouse engine is installed, projections are built
from the archive and kept live meanwhile; one has a mistake, which is corrected: the table is built anew beside the live one, compared with
it, swapped in, rolled back, and swapped again. At the end the archive is verified and compared, event by event, with what was published, and
the tables with the shop's own books. Then the payments of one tenant are replayed from the archive into another stream, at a limited rate.

With --input it publishes the events of a JSONL file of yours instead: plain objects, each member a field, or what "reservoir events" prints;
compressed with zstd or not. They go to the stream that --stream names, or that each event's --stream-field says. Replayed are those of the
most frequent tenant, or type, of the largest stream.

The archive stays in its directory afterwards. Ctrl-C stops everything and removes it. The configuration of other commands is not used.
Exit status 1 when the archive is not what was published.`

const demoExample = `  reservoir demo
  reservoir demo --duration 1m --rate 10000
  reservoir demo --input orders.jsonl
  reservoir demo --input all.jsonl --stream-field topic --keep`

func newDemoCmd(app *app) *cobra.Command {
	var opts demo.Options
	cmd := &cobra.Command{
		Use:         "demo",
		Short:       "Show it all on this machine: publish, archive, crash, project, rebuild, verify, replay",
		Long:        demoHelp,
		Example:     demoExample,
		Args:        cobra.NoArgs,
		Annotations: withoutConfig,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range []string{configFlag, "redis-url", "store-url"} {
				if cmd.Flags().Changed(name) {
					return usagef("--%s has no place in the demo: it brings up servers of its own", name)
				}
			}
			if err := opts.Validate(); err != nil {
				return usageError{err}
			}
			return app.demo(cmd.Context(), opts)
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&opts.Duration, "duration", demo.DefaultDuration, "how long events are published")
	flags.Float64Var(&opts.Rate, "rate", 0, fmt.Sprintf("events per second (default %d, or what lets --input last for --duration)", demo.DefaultRate))
	flags.StringVar(&opts.Input, "input", "", "publish the events of this JSONL `file`")
	flags.StringVar(&opts.Stream, "stream", "", "`name` of the stream that --input goes to (default the file's)")
	flags.StringVar(&opts.StreamField, "stream-field", "", "`field` of the events of --input that names their stream")
	flags.StringVar(&opts.Dir, "dir", "", "`directory` for all files, new or empty (default a temporary one)")
	flags.BoolVar(&opts.KeepDir, "keep", false, "leave the servers running at the end, until Ctrl-C, and keep the files in any case")
	return cmd
}

func (a *app) demo(ctx context.Context, opts demo.Options) (err error) {
	if opts.Program, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	screen := &demoScreen{app: a, began: time.Now(), input: opts.Input != ""}
	opts.Show = screen.show
	d, err := demo.Start(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if a.cfg, err = config.Load(config.Sources{File: d.ConfigFile()}); err != nil { // for what is shown of replays
		return err
	}
	result, err := d.Run(ctx)
	screen.close()
	if err != nil {
		if ctx.Err() == nil {
			err = remedy.Wrapf(err, "look at the logs in %s", d.Dir())
		}
		return err
	}
	if err := a.printDemo(result, d, opts.KeepDir, screen.trimmed); err != nil {
		return err
	}
	if opts.KeepDir {
		<-ctx.Done()
	}
	if len(result.Problems) > 0 {
		return errProblems
	}
	return nil
}

// demoScreen prints what happens, with a line below it that changes on a terminal.
type demoScreen struct {
	*app
	began   time.Time
	input   bool
	live    bool // the changing line is there
	last    time.Time
	trimmed demo.Trimmed
	bar     *jobDisplay // of the replay, on a terminal
	done    bool        // the replay is
}

// Without a terminal progress is a line now and then.
const demoProgressEvery = 2 * time.Second

func (s *demoScreen) show(n demo.Notice) {
	switch n := n.(type) {
	case demo.Ready:
		s.ready(n)
	case demo.Progress:
		s.progress(n)
	case demo.Killed:
		s.say("kill -9 %d: the archiver is gone; %s entries wait in Redis.", n.Pid, humanCount(n.Lag))
	case demo.Trimmed:
		s.trimmed = n
		s.say("XTRIM %s MAXLEN 0: somebody trims a stream meanwhile.", n.Stream)
	case demo.Restarted:
		s.say("The archiver is back (pid %d), at its last commit; %s entries wait.", n.Pid, humanCount(n.Lag))
	case demo.Published:
		s.say("All %s events are published.", humanCount(n.Events))
	case demo.Drained:
		s.say("All is archived. Reading it all again, to compare ...")
	case demo.Building, demo.Built, demo.Noticed, demo.Corrected, demo.Compared, demo.Swapped, demo.RolledBack, demo.RolledForth:
		s.tables(n)
	case demo.Replaying:
		s.replaying(n)
	case demo.Replayed:
		s.replayed(n)
	}
}

func (s *demoScreen) ready(n demo.Ready) {
	s.clear()
	what := "A shop publishes " + humanCount(n.Total) + " events to four streams; about 1 % are malformed."
	if s.input {
		what = "Publishing the " + humanCount(n.Total) + " events of the file."
	}
	note := ""
	if !n.S3 {
		note = "\n              (no S3 server is installed: `make demo` installs one; a directory does as well)"
	}
	engine := n.ClickHouse
	if engine == "" {
		engine = "- (" + n.NoTables + ")"
	}
	fmt.Fprintf(s.stdout, "  redis       %s\n  archive     %s%s\n  clickhouse  %s\n  files       %s\n\n", n.Redis, n.Store, note, engine, n.Dir)
	s.began = time.Now()
	s.say("%s", what)
	s.say("`reservoir archive` (pid %d) archives them as they come.", n.Pid)
}

// say prints a line that stays.
func (s *demoScreen) say(format string, args ...any) {
	s.clear()
	fmt.Fprintf(s.stdout, "%6.1fs  %s\n", time.Since(s.began).Seconds(), cellText.Replace(fmt.Sprintf(format, args...)))
}

const demoBar = 12 // characters

func (s *demoScreen) progress(p demo.Progress) {
	if !s.terminal && time.Since(s.last) < demoProgressEvery {
		return
	}
	s.last = time.Now()
	text := fmt.Sprintf("%s published  %s archived  ", humanCount(p.Published), humanCount(p.Archived))
	if p.Lost > 0 {
		text += fmt.Sprintf("%d lost  ", p.Lost)
	}
	text += fmt.Sprintf("lag %s (%s)  ", humanCount(p.Lag), humanDuration(p.LagAge.Round(100*time.Millisecond)))
	if p.ArchiverIsRunning {
		text += humanBytes(p.StoredBytes)
	} else {
		text += "no archiver"
	}
	if !s.terminal {
		s.say("%s", text)
		return
	}
	filled := int(demoBar * min(1, float64(p.Archived+p.Lost)/float64(max(1, p.Total))))
	text = "[" + strings.Repeat("=", filled) + strings.Repeat(" ", demoBar-filled) + "] " + text
	if width := s.width() - 10; len(text) > width && width > 0 {
		text = text[:width]
	}
	s.clear()
	fmt.Fprintf(s.stdout, "%6.1fs  %s", time.Since(s.began).Seconds(), text)
	s.live = true
}

// width is that of the terminal.
func (s *demoScreen) width() int {
	if f, ok := s.stdout.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return width
		}
	}
	return 80
}

// clear takes the changing line away.
func (s *demoScreen) clear() {
	if s.live {
		fmt.Fprint(s.stdout, eraseLine)
		s.live = false
	}
}

// close takes what changes away.
func (s *demoScreen) close() {
	s.clear()
	if s.bar != nil {
		s.bar.close()
	}
}

func (s *demoScreen) replaying(n demo.Replaying) {
	s.say("Replaying %s from the archive:", replayedWhat(&n.Replay))
	fmt.Fprintf(s.stdout, "         reservoir replay run%s --into 'redis:replay:{stream}' --rate %.0f/s\n", replaySelection(&n.Replay), n.Rate)
	s.last = time.Now()
	if s.errTerminal {
		s.bar = s.newJobDisplay()
	}
}

// replayed shows how the replay gets on, on a terminal as `replay run` does.
func (s *demoScreen) replayed(n demo.Replayed) {
	switch p := &n.Job.Progress; {
	case p.Phase == "finishing" && n.Job.State == jobs.Running && !s.done:
		s.done = true
		s.close()
		s.say("Replayed %s events.", humanCount(p.Selected))
	case s.bar != nil:
		s.bar.show(&n.Job)
	case time.Since(s.last) > demoProgressEvery/2:
		s.last = time.Now()
		s.say("%s", progressText(p))
	}
}

// replayedWhat says what was selected for a replay.
func replayedWhat(r *demo.Replay) string {
	if r.Tenant != "" {
		return fmt.Sprintf("%s's events of %s", r.Tenant, r.Stream)
	}
	return fmt.Sprintf("the %s events of %s", r.Type, r.Stream)
}

// replaySelection gives the flags that select it.
func replaySelection(r *demo.Replay) string {
	if r.Tenant != "" {
		return " --stream " + shellWord(r.Stream) + " --tenant " + shellWord(r.Tenant)
	}
	return " --stream " + shellWord(r.Stream) + " --type " + shellWord(r.Type)
}

// printDemo gives the account at the end, and what to try next.
func (a *app) printDemo(r demo.Result, d *demo.Demo, running bool, trimmed demo.Trimmed) error {
	fmt.Fprintln(a.stdout)
	t := a.table("STREAM", "PUBLISHED", "ARCHIVED", "LOST", "RAW", "JSONL", "PARQUET")
	total := r.Total()
	row := func(s demo.Stream) {
		t.row(s.Name, fmt.Sprint(s.Published), fmt.Sprint(s.Archived), fmt.Sprint(s.Lost),
			humanBytes(s.RawBytes), humanBytes(s.JSONLBytes), humanBytes(s.ParquetBytes))
	}
	const most = 12
	for _, s := range r.Streams[:min(most, len(r.Streams))] {
		row(s)
	}
	total.Name = "total"
	if more := len(r.Streams) - most; more > 0 {
		total.Name = fmt.Sprintf("total (%d more)", more)
	}
	row(total)
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout)
	a.printDemoVerdict(r, total, trimmed)
	return a.printDemoNext(r, d, running)
}

func (a *app) printDemoVerdict(r demo.Result, total demo.Stream, trimmed demo.Trimmed) {
	line := func(mark, format string, args ...any) {
		fmt.Fprintf(a.stdout, "  %-5s %s\n", mark, cellText.Replace(fmt.Sprintf(format, args...)))
	}
	for _, p := range r.Problems {
		line("WRONG", "%s", p)
	}
	if len(r.Problems) == 0 {
		killed := ""
		if r.Kills > 0 {
			killed = ", though the archiver was killed"
		}
		line("ok", "exactly once%s: %d events,", killed, total.Archived)
		line("", "in order, byte for byte, in both formats; compared with what was published.")
		for _, g := range total.Gaps {
			exactly := "at least"
			if g.Exact {
				exactly = "exactly"
			}
			line("ok", "the loss is on record: %s %d entries of %s, %s from Redis", exactly, g.Lost, trimmed.Stream, g.Cause)
			line("", "before they could be archived, after %s.", g.After)
		}
		v := r.Verified
		line("ok", "verify: %d commits, %d segments, %s events, %s: no problems.", v.Commits, v.Segments, humanCount(v.Events), humanBytes(v.Bytes))
	}
	a.printDemoTables(r, line)
	a.printDemoReplay(r, line)
	const worthwhile = 100 << 10 // less is mostly headers and footers
	ratio := func(stored int64) string {
		if total.RawBytes < worthwhile || stored == 0 {
			return ""
		}
		return fmt.Sprintf(" (%.1fx)", float64(total.RawBytes)/float64(stored))
	}
	line("size", "%s of events: %s as JSONL%s, %s as Parquet%s,", humanBytes(total.RawBytes),
		humanBytes(total.JSONLBytes), ratio(total.JSONLBytes), humanBytes(total.ParquetBytes), ratio(total.ParquetBytes))
	line("", "in segments of a second, which `compact` merges. All that took %s.", humanDuration(r.Took))
}

func (a *app) printDemoReplay(r demo.Result, line func(mark, format string, args ...any)) {
	if r.NoReplay != "" {
		line("", "Nothing was replayed: %s.", r.NoReplay)
	}
	if r.Replay == nil || len(r.Problems) > 0 {
		return
	}
	p := &r.Replay.Job.Progress
	line("ok", "replayed exactly once: %s; the archive has %d,", replayedWhat(r.Replay), r.Replay.Archived)
	line("", "%d were sent, and %s has %d.", p.Selected, r.Replay.Target, r.Replay.InTarget)
}

func (a *app) printDemoNext(r demo.Result, d *demo.Demo, running bool) error {
	stream, offline := r.Streams[0].Name, " --offline"
	for _, s := range r.Streams {
		if s.Name == shop.Orders {
			stream = s.Name
		}
	}
	if running {
		offline = ""
	}
	program := shellWord(os.Args[0])
	lines := []string{
		"", "Try next:", "",
		"  export RESERVOIR_CONFIG=" + shellWord(d.ConfigFile()),
		"  " + program + " streams --gaps" + offline,
		"  " + program + " events --stream " + shellWord(stream) + " --limit 5",
	}
	if stream == shop.Orders {
		lines = append(lines, "  "+program+" events --stream shop:orders --tenant acme --type OrderPaid --output table --limit 10")
	}
	lines = append(lines, demoReplayLines(r.Replay, program, running)...)
	lines = append(lines, demoTablesLines(r.Tables, program, running)...)
	lines = append(lines, "  "+program+" verify", "  "+program+" compact --min-age 0s",
		"  zstd -dc $(find "+shellWord(d.ArchiveDir())+" -name '*.jsonl.zst' | head -1) | head -3 | jq .", "")
	if running {
		lines = append(lines, "The servers stay up until Ctrl-C; the files stay then too.")
	} else {
		lines = append(lines, "The servers are stopped (--keep leaves them running); the archive stays until you say: rm -r "+shellWord(d.Dir()))
	}
	return a.printf("%s\n", strings.Join(lines, "\n"))
}

// demoReplayLines are the commands to go on replaying with: what the demo did, and
// more.
func demoReplayLines(r *demo.Replay, program string, running bool) []string {
	if r == nil {
		return nil
	}
	selection := replaySelection(r)
	lines := []string{
		"  " + program + " replay show " + r.ID,
		"  " + program + " replay estimate" + selection,
		"  " + program + " replay run" + selection + " --into file:replayed.jsonl",
	}
	if running {
		lines = append(lines,
			"  "+program+" replay create"+selection+" --into 'redis:again:{stream}' --rate 100/s",
			"  "+program+" worker     # runs it; any number of workers share the work, and survive kill -9")
	}
	return lines
}

// shellWord quotes what a shell would not take as one plain word.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@%+=,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
