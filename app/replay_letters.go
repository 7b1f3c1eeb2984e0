package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/replay"
)

const deadLettersHelp = `What a replay could not send was set aside: each event with the error, how often it was tried, and when.

"retry" makes a new replay of them, of all or of the keys that are given, into the same target; each is removed once it was sent. "purge" removes them.`

const deadLettersExample = `  reservoir replay dead-letters list 01KAJ4M5N6P7Q8R9S0T1V2W3X4
  reservoir replay dead-letters show 01KAJ4M5N6P7Q8R9S0T1V2W3X4 KEY
  reservoir replay dead-letters retry 01KAJ4M5N6P7Q8R9S0T1V2W3X4
  reservoir replay dead-letters purge 01KAJ4M5N6P7Q8R9S0T1V2W3X4 --all`

func newDeadLettersCmd(app *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dead-letters",
		Short:   "List, show, retry and purge what replays could not send",
		Long:    deadLettersHelp,
		Example: deadLettersExample,
		Args:    subcommandOnly,
		RunE:    func(*cobra.Command, []string) error { return usagef("want list, show, retry or purge") },
	}
	cmd.AddCommand(newDeadLettersListCmd(app), newDeadLettersShowCmd(app), newDeadLettersRetryCmd(app), newDeadLettersPurgeCmd(app))
	return cmd
}

// replayAndKeys wants the ID of a replay, and perhaps keys of dead letters.
func replayAndKeys(cmd *cobra.Command, args []string) error {
	return replayKind().one(cmd, args[:min(len(args), 1)])
}

// deadLetterList is the output of list with --json.
type deadLetterList struct {
	DeadLetters []*replay.DeadLetter `json:"dead_letters"`
	More        bool                 `json:"more,omitempty"` // go on with --after the last key
}

func newDeadLettersListCmd(app *app) *cobra.Command {
	var after string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list ID",
		Short: "List the dead letters of a replay, in its order",
		Args:  replayKind().one,
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.with(cmd.Context(), servicesSpec{}, func(b backend) error {
				return app.listLetters(cmd.Context(), b, args[0], after, limit, asJSON)
			})
		},
	}
	cmd.Flags().StringVar(&after, "after", "", "go on after the letter with this `key`")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so `many`; 0: all")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the events")
	return remotely(cmd)
}

func (a *app) listLetters(ctx context.Context, b letterBackend, id, after string, limit int, asJSON bool) error {
	list := deadLetterList{DeadLetters: []*replay.DeadLetter{}}
	t := a.table()
	if !asJSON {
		t.row("KEY", "STREAM", "ID", "TYPE", "ATTEMPTS", "TIME", "ERROR")
	}
	n := 0
	for d, err := range b.letters(ctx, id, after) {
		if err != nil {
			return replayKind().listed(err)
		}
		if n == limit && limit > 0 {
			list.More = true
			break
		}
		n++
		if asJSON {
			list.DeadLetters = append(list.DeadLetters, d)
			continue
		}
		t.row(d.Key, d.Stream, d.ID.String(), d.View.Type, fmt.Sprint(d.Attempts), timeText(d.Time), cut(d.Error, 120))
	}
	if asJSON {
		return a.printJSON(list)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if list.More {
		fmt.Fprintf(a.stderr, "there are more: --limit 0 lists all\n")
	}
	return nil
}

func newDeadLettersShowCmd(app *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID KEY",
		Short: "Show one dead letter with its event, as JSON",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("which dead letter? Give the replay's ID and the letter's key; `reservoir replay dead-letters list ID` shows the keys")
			}
			return replayAndKeys(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.with(cmd.Context(), servicesSpec{}, func(b backend) error {
				d, err := b.letter(cmd.Context(), args[0], args[1])
				if err != nil {
					return replayKind().listed(err)
				}
				return app.printJSON(d)
			})
		},
	}
	cmd.Flags().Bool("json", true, "print JSON, as it always does")
	return remotely(cmd)
}

func newDeadLettersRetryCmd(app *app) *cobra.Command {
	c := creation{}
	var here bool
	cmd := &cobra.Command{
		Use:   "retry ID [KEY...]",
		Short: "Make a replay of dead letters, of all or of some",
		Args:  replayAndKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if here {
				return app.retryHere(ctx, args[0], args[1:], &c)
			}
			_, spec, err := app.findReplay(ctx, args[0])
			if err != nil {
				return err
			}
			return app.with(ctx, servicesSpec{redis: needsRedis(spec), askRedis: asksRedis(spec), probe: true}, func(b backend) error {
				made, err := b.retryLetters(ctx, args[0], args[1:], c.options(false))
				switch {
				case err != nil:
					return refused(err)
				case c.asJSON:
					return app.printJob(made)
				default:
					return app.printCreated(replayKind(), made)
				}
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&here, "run", false, "run it in this process, as `reservoir replay run` does")
	flags.StringVar(&c.name, "name", "", "`name` of the new replay (default \"retry of\" the other's)")
	flags.StringVar(&c.reason, "reason", "", "`why` it is done, for the history")
	flags.StringVar(&c.key, "idempotency-key", "", "`text` of your own: creating again with it gives the same replay")
	flags.BoolVar(&c.asJSON, "json", false, "print the new replay as JSON")
	return remotely(cmd)
}

// retryHere makes a replay of dead letters, and runs it in this process.
func (a *app) retryHere(ctx context.Context, id string, keys []string, c *creation) (err error) {
	if !a.cfg.Client.URL.IsZero() {
		return usageError{a.notThrough("dead letters are not retried here (--run)", "leave --run out: the workers of the server do it")}
	}
	_, spec, err := a.findReplay(ctx, id)
	if err != nil {
		return err
	}
	b, err := a.openBucket(ctx, servicesSpec{redis: needsRedis(spec), askRedis: asksRedis(spec), probe: true, here: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	made, err := b.retryLetters(ctx, id, keys, c.options(true))
	if err != nil {
		return refused(err)
	}
	return a.runReplay(ctx, b.services, made, spec, c.asJSON)
}

func newDeadLettersPurgeCmd(app *app) *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "purge ID [KEY...]",
		Short: "Remove dead letters for good",
		Args:  replayAndKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 1) {
				return usagef("which dead letters? Give their keys, or --all")
			}
			return app.with(cmd.Context(), servicesSpec{}, func(b backend) error {
				n, err := b.purgeLetters(cmd.Context(), args[0], args[1:])
				if err != nil {
					return replayKind().listed(err)
				}
				if asJSON {
					return app.printJSON(struct {
						Purged int `json:"purged"`
					}{n})
				}
				return app.printf("purged %d dead letters\n", n)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all of them")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return remotely(cmd)
}
