package app

import (
	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/upcast"
)

const upcastTestHelp = `Run every recorded sample through the whole chain from its version on, and show where the result is not what the sample says.
Rules that no sample goes through are warned about.

With --stream it runs over archived events instead, and counts by type how many the rules change and how many they cannot; nothing is written.
Exit status 1 when a sample or an event fails.`

const upcastTestExample = `  reservoir upcast test
  reservoir upcast test upcasters/orders.yaml --json
  reservoir upcast test --stream 'shop:*' --limit 100000`

// upcastTestSpec is the command line of the command.
type upcastTestSpec struct {
	patterns []string
	from, to string
	limit    uint64
	asJSON   bool
}

func newUpcastTestCmd(app *app) *cobra.Command {
	var spec upcastTestSpec
	cmd := &cobra.Command{
		Use:     "test [PATH]",
		Short:   "Check upcasters against their samples, or try them on archived events",
		Long:    upcastTestHelp + "\n\n" + upcastHelp,
		Example: upcastTestExample,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(spec.patterns) == 0 && (spec.limit != 0 || spec.from != "" || spec.to != "") {
				return usagef("--limit, --from and --to are about archived events: give --stream as well")
			}
			set, err := app.loadUpcasters(args)
			if err != nil {
				return err
			}
			if len(spec.patterns) > 0 {
				return app.tryUpcasters(cmd.Context(), set, &spec)
			}
			return app.checkSamples(set, spec.asJSON)
		},
	}
	flags := cmd.Flags()
	streamFlag(flags, &spec.patterns, " whose archived events to try")
	rangeFlags(flags, &spec.from, &spec.to)
	flags.Uint64Var(&spec.limit, "limit", 0, "stop after this many events of a stream; 0: do not stop")
	flags.BoolVar(&spec.asJSON, "json", false, "print JSON")
	return cmd
}

// sampleReport is the JSON of the command without --stream.
type sampleReport struct {
	Samples  []testedSample `json:"samples"`
	Passed   int            `json:"passed"`
	Failed   int            `json:"failed"`
	Untested []listedRule   `json:"untested"`
}

type testedSample struct {
	Name        string              `json:"name"`
	Type        string              `json:"type"`
	Version     string              `json:"version"`
	Source      string              `json:"source"`
	Passed      bool                `json:"passed"`
	Differences []upcast.Difference `json:"differences,omitempty"`
	Error       string              `json:"error,omitempty"`
}

func (a *app) checkSamples(set *upcast.Set, asJSON bool) error {
	report := set.Check()
	out := sampleReport{
		Samples: []testedSample{}, Untested: []listedRule{},
		Passed: len(report.Samples) - report.Failed, Failed: report.Failed,
	}
	for _, r := range report.Samples {
		tested := testedSample{
			Name: r.Sample.Name, Type: r.Rule.Type, Version: r.Rule.From, Source: r.Sample.Source,
			Passed: r.Passed(), Differences: r.Differences,
		}
		if r.Err != nil {
			tested.Error = r.Err.Error()
		}
		out.Samples = append(out.Samples, tested)
	}
	for _, r := range report.Untested {
		out.Untested = append(out.Untested, listedRule{Rule: r.String(), Source: r.Source()})
	}
	var err error
	if asJSON {
		err = a.printJSON(out)
	} else {
		err = a.printSamples(&out)
	}
	if err == nil && out.Failed > 0 {
		return errProblems
	}
	return err
}

func (a *app) printSamples(report *sampleReport) error {
	for _, s := range report.Samples {
		if s.Passed {
			continue
		}
		version := "without a version"
		if s.Version != "" {
			version = "v" + s.Version
		}
		if err := a.printLine("failed: %s %s, sample %q (%s)", s.Type, version, s.Name, s.Source); err != nil {
			return err
		}
		if s.Error != "" {
			if err := a.printLine("  %s", s.Error); err != nil {
				return err
			}
		}
		for _, d := range s.Differences {
			if err := a.printDifference(d); err != nil {
				return err
			}
		}
	}
	for _, r := range report.Untested {
		if err := a.printLine("untested: %s (%s): no sample goes through it", r.Rule, r.Source); err != nil {
			return err
		}
	}
	return a.printf("%d samples: %d passed, %d failed; %d rules untested\n",
		len(report.Samples), report.Passed, report.Failed, len(report.Untested))
}

// printDifference shows a place with both sides below each other.
func (a *app) printDifference(d upcast.Difference) error {
	if err := a.printLine("  %s", d.Path); err != nil {
		return err
	}
	for _, side := range [][2]string{{"want", d.Want}, {"got ", d.Got}} {
		if side[1] == "" {
			side[1] = "nothing"
		}
		if err := a.printLine("    %s %s", side[0], side[1]); err != nil {
			return err
		}
	}
	return nil
}

// printLine prints one line; what would break the terminal is escaped.
func (a *app) printLine(format string, args ...any) error {
	for i, arg := range args {
		if text, ok := arg.(string); ok {
			args[i] = cellText.Replace(text)
		}
	}
	return a.printf(format+"\n", args...)
}

// shownErrors is how many events that fail are shown of each type.
const shownErrors = 3

// typeTrial counts what became of the events of one type and version.
type typeTrial struct {
	Stream  string       `json:"stream"`
	Type    string       `json:"type"`
	Version string       `json:"version"`
	Changed uint64       `json:"changed"`
	Failed  uint64       `json:"failed"`
	Errors  []trialError `json:"errors,omitempty"` // the first ones
}

type trialError struct {
	ID    event.ID `json:"id"`
	Error string   `json:"error"`
}
