package app

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/telemetry"
)

func newVersionCmd(app *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:         "version",
		Short:       "Print the version",
		Args:        cobra.NoArgs,
		Annotations: withoutConfig,
		RunE: func(*cobra.Command, []string) error {
			b := app.build()
			if asJSON {
				return app.printJSON(b)
			}
			_, err := fmt.Fprintf(app.stdout, "reservoir %s %s %s %s\n", b.Version, b.Revision, b.Go, b.Platform)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// build says what this binary was built from.
func (a *app) build() telemetry.Build { return telemetry.ReadBuild(a.own.Version) }
