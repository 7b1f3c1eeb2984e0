package app

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/projection"
)

func newProjectionsShowCmd(app *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a projection, and what is known of its table: generations, positions, history",
		Long:  projectionsHelp,
		Example: `  reservoir projections show orders
  reservoir projections show orders --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := app.loadProjections()
			if err != nil {
				return err
			}
			list, err := chosen(set, args)
			if err != nil {
				return err
			}
			documents, err := app.projectionDocuments(cmd)
			if err != nil {
				return err
			}
			p, err := app.describe(cmd, list[0], documents)
			if err != nil {
				return err
			}
			if asJSON {
				return app.printJSON(p)
			}
			return app.printProjection(list[0], &p)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) printProjection(d *projection.Definition, p *listedProjection) error {
	t := a.table()
	row := func(name, value string) {
		if value != "" {
			t.row(name, value)
		}
	}
	row("name", p.Name)
	row("description", p.Description)
	row("defined at", p.Where)
	row("kind", p.Kind)
	row("streams", strings.Join(p.Streams, ", "))
	row("event types", strings.Join(p.Types, ", "))
	row("table", p.Table)
	row("engine", p.Engine)
	row("order by", strings.Join(d.Table.OrderBy, ", "))
	row("keys", strings.Join(d.Keys, ", "))
	row("approval", string(d.Approval))
	row("kept for", d.Retention.Keep.String())
	row("digest", p.Digest)
	row("state", p.State)
	if doc := p.Document; doc != nil {
		row("damaged", doc.Damaged)
		row("generation", fmt.Sprint(doc.Live.Generation))
		row("built by", doc.Live.Rebuild)
		row("last batch", fmt.Sprint(doc.Batch))
		if doc.Holder != nil {
			row("held by", fmt.Sprintf("%s %s, %s", doc.Holder.Kind, doc.Holder.Worker, doc.Holder.Renewed.UTC().Format(time.RFC3339)))
		}
		for _, stream := range slices.Sorted(maps.Keys(doc.Live.Positions)) {
			at := doc.Live.Positions[stream]
			row("position", fmt.Sprintf("%s %d/%s", stream, at.Incarnation, at.ID))
		}
		for _, old := range doc.Previous {
			row("kept", fmt.Sprintf("generation %d as %s, until %s", old.Generation.Generation, old.Table, old.DropAfter.UTC().Format(time.RFC3339)))
		}
		for _, e := range doc.History {
			row("history", strings.TrimSpace(fmt.Sprintf("%s %s, generation %d %s %s", e.Time.UTC().Format(time.RFC3339), e.What, e.Generation, e.By, e.Message)))
		}
	}
	return t.flush()
}
