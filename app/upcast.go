package app

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/upcast"
)

const upcastHelp = `Upcasters bring old events into today's shape while they are replayed: rules by event type and schema version, in YAML, chained v1 → v2 → v3.

PATH is a file, or a directory with *.yaml; default replay.upcasters. docs/upcasting.md explains the format.`

func newUpcastCmd(app *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:         "upcast",
		Short:       "Test and list the rules that bring old events into today's shape",
		Long:        upcastHelp,
		Args:        subcommandOnly,
		Annotations: withoutConfig,
		RunE:        func(*cobra.Command, []string) error { return usagef("want test or list") },
	}
	cmd.AddCommand(newUpcastTestCmd(app), newUpcastListCmd(app))
	return cmd
}

// loadUpcasters loads the upcasters of a command line, or else those that are
// configured, and wants some.
func (a *app) loadUpcasters(args []string) (*upcast.Set, error) {
	path := a.cfg.Replay.Upcasters
	if len(args) == 1 {
		path = args[0]
	}
	set, err := a.upcasters(path)
	if err != nil {
		return nil, usageError{remedy.Wrap(err, "docs/upcasting.md explains the format")}
	}
	if set == nil {
		return nil, usageError{remedy.Wrap(errors.New("which upcasters? replay.upcasters is not set"),
			"give a file or a directory: `reservoir upcast test upcasters/`")}
	}
	return set, nil
}

// upcasters loads those of a file or directory, if any, and those of this program;
// nil: there are none.
func (a *app) upcasters(path string) (set *upcast.Set, err error) {
	switch {
	case path != "":
		set, err = upcast.Load(path, a.own.Upcasters...)
	case len(a.own.Upcasters) > 0:
		set, err = upcast.New(a.own.Upcasters...)
	}
	if err != nil {
		return nil, fmt.Errorf("load the upcasters: %w", err)
	}
	return set, nil
}

// listedChain is one chain in the JSON of the command.
type listedChain struct {
	Type  string       `json:"type"`
	Chain string       `json:"chain"`
	Rules []listedRule `json:"rules"`
}

type listedRule struct {
	Rule    string `json:"rule"`
	Source  string `json:"source"`
	Samples int    `json:"samples"`
}

func newUpcastListCmd(app *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [PATH]",
		Short: "Show the chains of upcasters by event type",
		Long:  upcastHelp,
		Example: `  reservoir upcast list
  reservoir upcast list upcasters/orders.yaml --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			set, err := app.loadUpcasters(args)
			if err != nil {
				return err
			}
			chains := []listedChain{}
			for _, c := range set.Chains() {
				listed := listedChain{Type: c[0].Type, Chain: c.String()}
				for _, r := range c {
					listed.Rules = append(listed.Rules, listedRule{r.String(), r.Source(), len(r.Samples())})
				}
				chains = append(chains, listed)
			}
			if asJSON {
				return app.printJSON(struct {
					Digest string        `json:"digest"`
					Chains []listedChain `json:"chains"`
				}{set.Digest(), chains})
			}
			return app.printChains(chains)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) printChains(chains []listedChain) error {
	t := a.table("TYPE", "CHAIN", "SAMPLES", "FIRST RULE")
	for _, c := range chains {
		samples := 0
		for _, r := range c.Rules {
			samples += r.Samples
		}
		t.row(c.Type, c.Chain, fmt.Sprint(samples), c.Rules[0].Source)
	}
	return t.flush()
}
