package app

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/projection/examples"
	"github.com/reservoirhq/reservoir/upcast"
)

const projectionsHelp = `Projections are tables in ClickHouse that are a function of events: definitions in YAML, with a SELECT or a function in Go.

They are read from projections.dir, or from the directory or file that --dir names. docs/projections.md explains the format.`

func newProjectionsCmd(app *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:         "projections",
		Short:       "List, check and test the definitions of projections",
		Long:        projectionsHelp,
		Args:        subcommandOnly,
		Annotations: withoutConfig,
		RunE:        func(*cobra.Command, []string) error { return usagef("want list, show, validate or test") },
	}
	bindKey(cmd.PersistentFlags(), "dir", "projections.dir")
	bindKey(cmd.PersistentFlags(), "clickhouse-url", "clickhouse.url")
	cmd.AddCommand(newProjectionsListCmd(app), newProjectionsShowCmd(app), newProjectionsValidateCmd(app), newProjectionsTestCmd(app))
	return cmd
}

// loadProjections loads the configured definitions, for the functions that this
// program has.
func (a *app) loadProjections() (*projection.Set, error) {
	dir := a.cfg.Projections.Dir
	if dir == "" {
		return nil, usageError{remedy.Wrap(errors.New("which projections? projections.dir is not set"),
			"name a directory with definitions: --dir projections/")}
	}
	registry, err := projection.NewRegistry(slices.Concat(examples.Functions(), a.own.Functions)...)
	if err != nil {
		return nil, err
	}
	set, err := projection.Load(dir, registry)
	if err != nil {
		return nil, usageError{withRemedyOr(err, "docs/projections.md explains the format")}
	}
	return set, nil
}

// withRemedyOr gives an error a remedy, unless it has one.
func withRemedyOr(err error, what string) error {
	if remedy.Of(err) != "" {
		return err
	}
	return remedy.Wrap(err, what)
}

// chosen gives the projections of a command line: those that are named, or all.
func chosen(set *projection.Set, names []string) ([]*projection.Definition, error) {
	if len(names) == 0 {
		var all []*projection.Definition
		for d := range set.All() {
			all = append(all, d)
		}
		return all, nil
	}
	var list []*projection.Definition
	for _, name := range names {
		d, err := set.Get(name)
		if err != nil {
			return nil, usageError{err}
		}
		list = append(list, d)
	}
	return list, nil
}

// listedProjection is one projection in the JSON of the commands.
type listedProjection struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Kind        string   `json:"kind"`
	Table       string   `json:"table"`
	Engine      string   `json:"engine"`
	Streams     []string `json:"streams"`
	Types       []string `json:"types,omitempty"`
	Where       string   `json:"where"` // the file and line
	Digest      string   `json:"digest"`
	// State is not_built, live, changed (the definition is another one than the
	// table's), damaged, or unknown where no archive is configured.
	State    string               `json:"state"`
	Document *projection.Document `json:"document,omitempty"`
}

// The states of a listed projection.
const (
	stateUnknown  = "unknown"
	stateNotBuilt = "not_built"
	stateLive     = "live"
	stateChanged  = "changed"
	stateDamaged  = "damaged"
)

// describe gives a projection with what is known of its table.
func (a *app) describe(cmd *cobra.Command, d *projection.Definition, documents *projection.Store) (listedProjection, error) {
	digest, err := a.digest(d)
	if err != nil {
		return listedProjection{}, err
	}
	p := listedProjection{
		Name: d.Name, Description: d.Description, Kind: string(d.Kind), Table: d.Table.Name, Engine: d.Table.Engine,
		Streams: d.Source.Streams, Types: d.Source.Types, Where: d.Where(), Digest: digest, State: stateUnknown,
	}
	if documents == nil {
		return p, nil
	}
	doc, err := documents.Get(cmd.Context(), d.Name)
	if errors.Is(err, projection.ErrNotBuilt) {
		p.State = stateNotBuilt
		return p, nil
	}
	if err != nil {
		return listedProjection{}, err
	}
	p.Document = doc
	switch {
	case doc.Damaged != "":
		p.State = stateDamaged
	case doc.Live.Generation == 0:
		p.State = stateNotBuilt
	case doc.Live.Digest != digest:
		p.State = stateChanged
	default:
		p.State = stateLive
	}
	return p, nil
}

// digest is that of a definition, and of the upcasters that it uses.
func (a *app) digest(d *projection.Definition) (string, error) {
	upcasters, err := a.upcasters(a.cfg.Replay.Upcasters)
	if err != nil {
		return "", err
	}
	return digestOf(d, upcasters)
}

func digestOf(d *projection.Definition, upcasters *upcast.Set) (string, error) {
	digest, err := d.Digest()
	if err != nil || !d.Upcast {
		return digest, err
	}
	return digest + "+" + upcasters.Digest(), nil
}

// projectionDocuments opens what is known of the tables; nil where no archive is
// configured.
func (a *app) projectionDocuments(cmd *cobra.Command) (*projection.Store, error) {
	if a.cfg.Store.URL.IsZero() {
		return nil, nil //nolint:nilnil // there is none
	}
	store, err := a.openStore(cmd.Context())
	if err != nil {
		return nil, err
	}
	return projection.NewStore(store), nil
}

func newProjectionsListCmd(app *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the projections, with what is known of their tables",
		Long:  projectionsHelp,
		Example: `  reservoir projections list --dir projections/
  reservoir projections list --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			set, err := app.loadProjections()
			if err != nil {
				return err
			}
			documents, err := app.projectionDocuments(cmd)
			if err != nil {
				return err
			}
			list := []listedProjection{}
			for d := range set.All() {
				p, err := app.describe(cmd, d, documents)
				if err != nil {
					return err
				}
				list = append(list, p)
			}
			if asJSON {
				return app.printJSON(struct {
					Projections []listedProjection `json:"projections"`
				}{list})
			}
			return app.printProjections(list)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) printProjections(list []listedProjection) error {
	t := a.table("NAME", "KIND", "TABLE", "ENGINE", "STATE", "GENERATION", "SINCE")
	for _, p := range list {
		generation, since := "", ""
		if p.Document != nil && p.Document.Live.Generation > 0 {
			generation = fmt.Sprint(p.Document.Live.Generation)
			since = p.Document.Live.LiveAt.UTC().Format(time.RFC3339)
		}
		t.row(p.Name, p.Kind, p.Table, p.Engine, p.State, generation, since)
	}
	return t.flush()
}
