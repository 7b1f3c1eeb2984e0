package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/reservoirhq/reservoir/config"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/telemetry"
)

// app is what the subcommands share. Its configuration and logger are there
// when a subcommand's RunE is called, unless it is marked as withoutConfig.
type app struct {
	stdin  io.Reader
	stdout io.Writer // results only
	stderr io.Writer // logs, progress and errors

	// terminal says that stdout is one, errTerminal that stderr is.
	terminal, errTerminal bool

	environ []string
	cfg     *config.Loaded
	logger  *slog.Logger

	// own is what the program adds.
	own Options

	working bool // RunE was reached: errors from here on are not of usage
}

func newApp(own Options, stdin io.Reader, stdout, stderr io.Writer, environ []string) *app {
	return &app{
		stdin: stdin, stdout: stdout, stderr: stderr,
		terminal: isTerminal(stdout), errTerminal: isTerminal(stderr),
		environ: environ, logger: slog.New(slog.DiscardHandler), own: own,
	}
}

const rootHelp = `Reservoir keeps every event of your Redis Streams in an archive on S3 or in a directory, exactly once and byte for byte, and gives it back.

Configuration comes from a YAML file, RESERVOIR_* environment variables and flags, the later over the earlier;
"reservoir config keys" lists every key, "reservoir doctor" tries everything that is configured.

Exit status: 0 done; 1 done, but something is wrong or was left (verify, doctor, archive --once);
2 wrong command line or configuration; 3 failed; 130 interrupted.`

func newRootCmd(app *app) *cobra.Command {
	root := &cobra.Command{
		Use:               "reservoir",
		Short:             "Archive and replay for Redis Streams",
		Long:              rootHelp,
		Args:              subcommandOnly,
		SilenceErrors:     true, // report prints them, once
		SilenceUsage:      true,
		PersistentPreRunE: app.configure,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Annotations:       withoutConfig,
	}
	root.SetIn(app.stdin)
	root.SetOut(app.stdout)
	root.SetErr(app.stderr)

	flags := root.PersistentFlags()
	flags.String(configFlag, "", "configuration `file` (default $RESERVOIR_CONFIG, ./reservoir.yaml, /etc/reservoir/reservoir.yaml)")
	bindKey(flags, "log-level", "log.level")
	bindKey(flags, "log-format", "log.format")
	bindKey(flags, "redis-url", "redis.url")
	bindKey(flags, "store-url", "store.url")
	bindKey(flags, "server", "client.url")
	bindKey(flags, "token-file", "client.token_file")
	bindKey(flags, "server-ca", "client.ca_file")

	root.AddCommand(subcommands(app)...)
	app.watch(root)
	app.complete(root)
	return root
}

// subcommandOnly refuses an argument that is no subcommand, and says which one
// it looks like.
func subcommandOnly(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := nearCommands(cmd, args[0]); len(near) > 0 {
		return usagef("unknown command %q for %q: did you mean %s?", args[0], cmd.CommandPath(), strings.Join(near, " or "))
	}
	return usagef("unknown command %q for %q", args[0], cmd.CommandPath())
}

// nearCommands gives the subcommands that a word begins, or else the one that it is
// a typo of.
func nearCommands(cmd *cobra.Command, word string) []string {
	var names, begun []string
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() {
			continue
		}
		names = append(names, c.Name())
		if strings.HasPrefix(c.Name(), strings.ToLower(word)) {
			begun = append(begun, c.Name())
		}
	}
	if near := remedy.Nearest(word, slices.Values(names)); near != "" && len(begun) == 0 {
		return []string{near}
	}
	return begun
}

// subcommands is the one list of what there is.
func subcommands(app *app) []*cobra.Command {
	return []*cobra.Command{
		newDemoCmd(app),
		newDoctorCmd(app),
		newArchiveCmd(app),
		newStreamsCmd(app),
		newEventsCmd(app),
		newReplayCmd(app),
		newWorkerCmd(app),
		newServeCmd(app),
		newTokenCmd(app),
		newVerifyCmd(app),
		newProjectionsCmd(app),
		newProjectorCmd(app),
		newRebuildCmd(app),
		newUpcastCmd(app),
		newImportCmd(app),
		newCompactCmd(app),
		newExpireCmd(app),
		newGCCmd(app),
		newMigrateCmd(app),
		newConfigCmd(app),
		newVersionCmd(app),
	}
}

const configFlag = "config"

// withoutConfig marks a command that runs without any configuration.
var withoutConfig = map[string]string{"config": "none"}

// configure loads the configuration before a command runs.
func (a *app) configure(cmd *cobra.Command, _ []string) error {
	if !needsConfig(cmd) {
		return nil
	}
	cfg, err := a.load(cmd)
	if err != nil {
		return err
	}
	a.cfg = cfg
	if err := a.refuseServer(cmd); err != nil {
		return err
	}
	a.logger, err = telemetry.NewLogger(a.stderr, telemetry.LogOptions{
		Level: cfg.Log.Level, Format: cfg.Log.Format, Terminal: a.errTerminal,
	})
	return err
}

// load reads the configuration with the command's flags over it.
func (a *app) load(cmd *cobra.Command) (*config.Loaded, error) {
	file, err := cmd.Flags().GetString(configFlag)
	if err != nil {
		return nil, err
	}
	src := config.Sources{File: file, Environ: a.environ}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if key := f.Annotations[keyAnnotation]; len(key) == 1 {
			src.Flags = append(src.Flags, config.Flag{Key: key[0], Name: f.Name, Value: f.Value.String()})
		}
	})
	return config.Load(src)
}

// needsConfig is false for the marked commands and for those that cobra adds.
func needsConfig(cmd *cobra.Command) bool {
	if cmd.Annotations["config"] == "none" {
		return false
	}
	for c := cmd; c.HasParent(); c = c.Parent() {
		switch c.Name() {
		case "help", "completion", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd:
			return false
		}
	}
	return true
}

// keyAnnotation marks a flag that sets a key of the configuration.
const keyAnnotation = "reservoir-key"

// bindKey adds a flag that sets a key of the configuration and is documented by
// it. A key that does not exist gives no flag, which a test looks for.
func bindKey(flags *pflag.FlagSet, name, key string) {
	for _, k := range config.Keys() {
		if k.Name != key {
			continue
		}
		usage := strings.TrimSuffix(k.Doc, ".") + " (" + key + ")"
		value := &keyValue{typ: flagType(k), list: k.Type == "list"}
		f := flags.VarPF(value, name, "", usage)
		f.Annotations = map[string][]string{keyAnnotation: {key}}
		if k.Type == "yes/no" {
			f.NoOptDefVal = "true"
		}
	}
}

func flagType(k config.Key) string {
	if len(k.Enum) > 0 {
		return strings.Join(k.Enum, "|")
	}
	switch k.Type {
	case "yes/no":
		return "bool"
	default:
		return k.Type
	}
}

// keyValue is the text of a flag; package config says what it means. The flag
// of a list may be given several times, an item or more at a time.
type keyValue struct {
	text, typ string
	list      bool
}

func (v *keyValue) String() string { return v.text }
func (v *keyValue) Type() string   { return v.typ }

func (v *keyValue) Set(s string) error {
	if v.list && v.text != "" {
		s = v.text + "," + s
	}
	v.text = s
	return nil
}

// watch notes when a command begins to work.
func (a *app) watch(command *cobra.Command) {
	if inner := command.RunE; inner != nil {
		command.RunE = func(cmd *cobra.Command, args []string) error {
			a.working = true
			return inner(cmd, args)
		}
	}
	for _, sub := range command.Commands() {
		a.watch(sub)
	}
}

// errProblems ends a command that did its work and found something wrong, and
// has said what: nothing more is printed, and the status is exitProblems.
var errProblems = errors.New("problems found")

// usageError is a wrong command line that only the command itself could see.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usagef makes a usageError.
func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// report prints the error that a command ended with, and gives the exit status.
func (a *app) report(ctx context.Context, cmd *cobra.Command, err error) int {
	var (
		usage   usageError
		invalid *config.Error
	)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errProblems):
		return exitProblems
	case errors.Is(err, context.Canceled) && errors.Is(context.Cause(ctx), errInterrupted):
		a.printError(errInterrupted)
		return exitInterrupted
	case errors.As(err, &invalid):
		a.printError(err)
		return exitUsage
	case errors.As(err, &usage), !a.working:
		if remedy.Of(err) == "" {
			err = remedy.Wrapf(err, "see `%s --help`", cmd.CommandPath())
		}
		a.printError(err)
		return exitUsage
	default:
		a.printError(withRemedy(err))
		return exitFailure
	}
}

// printError prints an error and its remedy, with the secrets of the
// configuration hidden whoever quoted them.
func (a *app) printError(err error) {
	text := "error: " + strings.TrimSpace(err.Error()) + "\n"
	if r := remedy.Of(err); r != "" {
		text += "  remedy: " + strings.ReplaceAll(r, "\n", "\n  ") + "\n"
	}
	if a.cfg != nil {
		text = a.cfg.Redact(text)
	}
	io.WriteString(a.stderr, text) //nolint:errcheck // there is nowhere left to say so
}
