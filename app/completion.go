package app

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/replay"
)

// Who presses Tab waits: so long at most, and for so many words.
const (
	completionTakes = 3 * time.Second
	completionMost  = 200
)

// completer gives what a word of the command line may be, beginning with prefix.
type completer func(ctx context.Context, prefix string) ([]cobra.Completion, error)

// complete gives the commands what a shell completes: names of streams and
// projections, and IDs of jobs.
func (a *app) complete(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		a.complete(sub)
	}
	for name, words := range a.flagWords() {
		flag := cmd.LocalFlags().Lookup(name)
		if flag == nil || flag.Value.Type() == "bool" || cmd.HasSubCommands() {
			continue
		}
		if err := cmd.RegisterFlagCompletionFunc(name, a.completion(words)); err != nil {
			cmd.PrintErrln(err) // it is there twice
		}
	}
	if words := a.argumentWords(cmd); words != nil {
		cmd.ValidArgsFunction = words
	}
}

// flagWords are what flags may be given, by their names.
func (a *app) flagWords() map[string]completer {
	var states []string
	for _, state := range jobs.States() {
		states = append(states, string(state))
	}
	return map[string]completer{
		"stream":     a.streamWords,
		"projection": a.projectionWords,
		"state":      oneOf(states...),
		"order":      oneOf(string(replay.OrderTime), string(replay.OrderStream)),
		"approval":   oneOf(string(projection.Automatic), string(projection.Required)),
		"way":        oneOf(string(rebuild.WayAuto), string(rebuild.WayPushdown), string(rebuild.WayGo)),
	}
}

// oneOf gives those of some words that begin so; behind a comma there is another one.
func oneOf(words ...string) completer {
	return func(_ context.Context, prefix string) (found []cobra.Completion, _ error) {
		before, last := "", prefix
		if i := strings.LastIndexByte(prefix, ','); i >= 0 {
			before, last = prefix[:i+1], prefix[i+1:]
		}
		for _, word := range words {
			if strings.HasPrefix(word, last) {
				found = append(found, before+word)
			}
		}
		return found, nil
	}
}

// argumentWords completes the arguments of a command; nil: they are no names.
func (a *app) argumentWords(cmd *cobra.Command) cobra.CompletionFunc {
	path := strings.Fields(cmd.CommandPath())
	_, arguments, _ := strings.Cut(cmd.Use, " ")
	first := completer(nil)
	switch {
	case len(path) < 3:
		return nil
	case path[1] == "replay" && strings.Contains(arguments, "ID"):
		first = a.jobWords(replay.Kind, changeable(path)...)
	case strings.Contains(arguments, "PROJECTION|ID"):
		projections, rebuilds := completer(a.projectionWords), a.jobWords(rebuild.Kind, jobs.Pending, jobs.Paused, jobs.Running)
		first = func(ctx context.Context, prefix string) ([]cobra.Completion, error) {
			found, err := projections(ctx, prefix)
			if err != nil {
				return nil, err
			}
			more, err := rebuilds(ctx, prefix)
			return append(found, more...), err
		}
	case strings.Contains(arguments, "PROJECTION"), path[1] == "projections" && strings.Contains(arguments, "NAME"):
		first = a.projectionWords
	case path[1] == "rebuild" && strings.Contains(arguments, "ID"):
		first = a.jobWords(rebuild.Kind, changeable(path)...)
	default:
		return nil
	}
	return func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		switch {
		case len(args) == 0 || strings.Contains(arguments, "NAME..."):
			return a.completion(first)(cmd, args, prefix)
		case strings.Contains(arguments, "KEY") && (len(args) == 1 || strings.Contains(arguments, "KEY...")):
			return a.completion(a.letterWords(args[0]))(cmd, args, prefix)
		default:
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
	}
}

// changeable are the states of jobs for which a command is of use; none: all.
func changeable(path []string) []jobs.State {
	switch last := path[len(path)-1]; {
	case len(path) > 3: // dead-letters
		return nil
	case last == string(pauseJob):
		return []jobs.State{jobs.Pending, jobs.Running}
	case last == string(resumeJob), last == string(approveJob):
		return []jobs.State{jobs.Paused}
	case last == string(retryJob):
		return []jobs.State{jobs.Failed}
	case last == string(cancelJob):
		return []jobs.State{jobs.Pending, jobs.Running, jobs.Paused, jobs.Failed}
	default:
		return nil
	}
}

// completion reads the configuration and asks for words. Whatever fails, there are
// none.
func (a *app) completion(of completer) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTakes)
		defer cancel()
		var err error
		if a.cfg, err = a.load(cmd); err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		found, err := of(ctx, prefix)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// streamWords are the streams of the archive.
func (a *app) streamWords(ctx context.Context, prefix string) (found []cobra.Completion, err error) {
	if !a.cfg.Client.URL.IsZero() {
		return a.remoteWords(func(r *remote) ([]cobra.Completion, error) { return r.streamWords(ctx, prefix) })
	}
	arch, err := a.openArchive(ctx)
	if err != nil {
		return nil, err
	}
	for name, err := range arch.Streams(ctx) {
		if err != nil || len(found) == completionMost {
			return found, err
		}
		if strings.HasPrefix(name, prefix) {
			found = append(found, name)
		}
	}
	return found, nil
}

// jobWords are the jobs of a kind that are in one of some states, with what tells them
// apart.
func (a *app) jobWords(kind string, states ...jobs.State) completer {
	return func(ctx context.Context, prefix string) (found []cobra.Completion, err error) {
		err = a.with(ctx, servicesSpec{jobsOnly: true}, func(b backend) error {
			for job, err := range b.list(ctx, jobs.Query{Kinds: []string{kind}, States: states, Limit: completionMost}) {
				if err != nil {
					return err
				}
				if strings.HasPrefix(job.ID, prefix) {
					found = append(found, cobra.CompletionWithDesc(job.ID, strings.Join(strings.Fields(string(job.State)+" "+job.Target+" "+job.Name), " ")))
				}
			}
			return nil
		})
		return found, err
	}
}

// letterWords are the keys of the dead letters of a replay.
func (a *app) letterWords(id string) completer {
	return func(ctx context.Context, prefix string) (found []cobra.Completion, err error) {
		err = a.with(ctx, servicesSpec{}, func(b backend) error {
			for d, err := range b.letters(ctx, id, "") {
				if err != nil || len(found) == completionMost {
					return err
				}
				if strings.HasPrefix(d.Key, prefix) {
					found = append(found, cobra.CompletionWithDesc(d.Key, strings.Join(strings.Fields(d.Stream+" "+d.ID.String()+" "+d.View.Type), " ")))
				}
			}
			return nil
		})
		return found, err
	}
}

// projectionWords are the configured projections.
func (a *app) projectionWords(ctx context.Context, prefix string) (found []cobra.Completion, err error) {
	if !a.cfg.Client.URL.IsZero() {
		return a.remoteWords(func(r *remote) ([]cobra.Completion, error) { return r.projectionWords(ctx, prefix) })
	}
	set, err := a.loadProjections()
	if err != nil {
		return nil, err
	}
	for d := range set.All() {
		if strings.HasPrefix(d.Name, prefix) {
			found = append(found, cobra.CompletionWithDesc(d.Name, d.Description))
		}
	}
	return found, nil
}

// remoteWords asks the server for words.
func (a *app) remoteWords(of func(*remote) ([]cobra.Completion, error)) (found []cobra.Completion, err error) {
	r, err := a.openRemote()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	return of(r)
}
