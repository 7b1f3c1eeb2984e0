package app

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/jobs"
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
	if cmd.Flags().Lookup("stream") != nil {
		if err := cmd.RegisterFlagCompletionFunc("stream", a.completion(a.streamWords)); err != nil {
			cmd.PrintErrln(err) // it is there twice
		}
	}
	path := cmd.CommandPath()
	under := func(parent string) bool { return strings.HasPrefix(path, "reservoir "+parent+" ") }
	_, arguments, _ := strings.Cut(cmd.Use, " ")
	switch {
	case under("replay") && strings.Contains(arguments, "ID"):
		cmd.ValidArgsFunction = a.completion(a.jobWords(replay.Kind))
	case strings.Contains(arguments, "PROJECTION"), under("projections") && strings.Contains(arguments, "NAME"):
		cmd.ValidArgsFunction = a.completion(a.projectionWords)
	case under("rebuild") && strings.Contains(arguments, "ID"):
		cmd.ValidArgsFunction = a.completion(a.jobWords(rebuild.Kind))
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

// jobWords are the jobs of a kind, with what tells them apart.
func (a *app) jobWords(kind string) completer {
	return func(ctx context.Context, prefix string) (found []cobra.Completion, err error) {
		store, _, err := a.openJobs(ctx)
		if err != nil {
			return nil, err
		}
		for job, err := range store.List(ctx, jobs.Query{Kinds: []string{kind}, Limit: completionMost}) {
			if err != nil {
				return nil, err
			}
			if strings.HasPrefix(job.ID, prefix) {
				found = append(found, cobra.CompletionWithDesc(job.ID, strings.Join(strings.Fields(string(job.State)+" "+job.Target+" "+job.Name), " ")))
			}
		}
		return found, nil
	}
}

// projectionWords are the configured projections.
func (a *app) projectionWords(_ context.Context, prefix string) (found []cobra.Completion, err error) {
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
