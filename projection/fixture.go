package projection

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
)

// Recorded is an event of a fixture.
type Recorded struct {
	Stream string
	Event  event.Event
}

// maxLine bounds a line of a fixture.
const maxLine = 16 << 20

// ReadEvents reads events as `reservoir events` prints them in JSON, one a line: see
// event.View. What is left out is not there, but for the ID, which is then the
// line's number; a payload that is a text is taken as it is, any other as JSON.
// name is that of the file, for errors.
func ReadEvents(name string, in io.Reader) ([]Recorded, error) {
	var out []Recorded
	err := readLines(name, in, func(line int, text []byte) error {
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		var v event.View
		if err := dec.Decode(&v); err != nil {
			return err
		}
		if v.ID.IsZero() {
			v.ID = event.ID{Ms: uint64(line)}
		}
		out = append(out, Recorded{v.Stream, eventOf(&v)})
		return nil
	})
	return out, err
}

// eventOf makes an event that looks like a view, with the names of fields that
// the default mapping knows.
func eventOf(v *event.View) event.Event {
	e := event.Event{ID: v.ID}
	add := func(name, value string) {
		if value != "" {
			e.Fields = append(e.Fields, event.Field{Name: []byte(name), Value: []byte(value)})
		}
	}
	add("event_id", v.EventID)
	add("event_type", v.Type)
	add("tenant", v.Tenant)
	add("aggregate_type", v.AggregateType)
	add("aggregate_id", v.AggregateID)
	if v.AggregateVersion != nil {
		add("aggregate_version", strconv.FormatInt(*v.AggregateVersion, 10))
	}
	if v.Time != nil {
		add("occurred_at", v.Time.Format(time.RFC3339Nano))
	}
	add("correlation_id", v.CorrelationID)
	add("causation_id", v.CausationID)
	add("schema_version", v.SchemaVersion)
	var text string
	if json.Unmarshal(v.Payload, &text) != nil {
		text = string(v.Payload)
	}
	add("payload", text)
	names := make([]string, 0, len(v.Fields))
	for name := range v.Fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		add(name, v.Fields[name])
	}
	return e
}

// ReadRows reads rows as a fixture has them: a JSON object a line, by column.
func ReadRows(name string, in io.Reader) ([]map[string]json.RawMessage, error) {
	var out []map[string]json.RawMessage
	err := readLines(name, in, func(_ int, text []byte) error {
		var row map[string]json.RawMessage
		if err := json.Unmarshal(text, &row); err != nil {
			return err
		}
		out = append(out, row)
		return nil
	})
	return out, err
}

func readLines(name string, in io.Reader, read func(line int, text []byte) error) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	var errs []error
	for n := 1; lines.Scan(); n++ {
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		if err := read(n, text); err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", name, n, err))
		}
	}
	if err := lines.Err(); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", name, err))
	}
	return errors.Join(errs...)
}

// Trial is what a projection made of recorded events.
type Trial struct {
	// Rows are those of the table, merged, in the order of its keys.
	Rows chstore.Rows
	// Used counts the events that the projection is made of.
	Used int
	// Unusable are those that it could not use.
	Unusable []Unusable
	Checks   []CheckResult
}

// Unusable is an event that a projection could not use.
type Unusable struct {
	Stream string   `json:"stream"`
	ID     event.ID `json:"id"`
	Reason string   `json:"reason"`
}

// maxTrialRows bounds the rows of a trial.
const maxTrialRows = 10000

// Try runs a projection of a set on recorded events, in a table of its own that is
// dropped again, and its checks on that table. Events of other streams and types
// are left out; upcasters are not applied.
func (s *Set) Try(ctx context.Context, db *chstore.Store, d *Definition, events []Recorded) (*Trial, error) {
	trial := &Trial{}
	err := d.InThrowAway(ctx, db, func(ctx context.Context, table chstore.Table) error {
		t := &trialRun{set: s, db: db, d: d, table: table, trial: trial}
		return t.run(ctx, events)
	})
	if err != nil {
		return nil, fmt.Errorf("try projection %s: %w", d.Name, err)
	}
	return trial, nil
}

func (d *Definition) columns() []string { return slices.Collect(columnNames(d.Table.Columns)) }

type trialRun struct {
	set   *Set
	db    *chstore.Store
	d     *Definition
	table chstore.Table
	trial *Trial
}

// run puts the rows of the events into the table, and looks at it.
func (t *trialRun) run(ctx context.Context, events []Recorded) error {
	fill := t.sql
	if t.d.Kind != SQL {
		fill = t.inGo
	}
	if err := fill(ctx, events); err != nil {
		return err
	}
	var err error
	page := chstore.Page{Columns: t.d.columns(), OrderBy: t.d.Keys, Final: true, Limit: maxTrialRows}
	if t.trial.Rows, err = t.db.Read(ctx, t.table, page); err != nil {
		return err
	}
	for i := range t.d.Checks {
		result, err := t.d.Checks[i].Run(ctx, t.db, t.table)
		if err != nil {
			return err
		}
		t.trial.Checks = append(t.trial.Checks, result)
	}
	return nil
}

// load is what all loads of a trial have in common.
func (t *trialRun) load() chstore.Load {
	return chstore.Load{Into: t.table, Chunk: 1, Adding: t.d.Table.Kind() == chstore.Adding}
}

// sql sends the events along with the definition's SELECT.
func (t *trialRun) sql(ctx context.Context, events []Recorded) error {
	block, err := chstore.NewBlock()
	if err != nil {
		return err
	}
	extractor := event.DefaultMapping().Extractor()
	var env event.Envelope
	for i := range events {
		e := &events[i]
		if !t.d.Source.MatchesStream(e.Stream) {
			continue
		}
		extractor.Extract(&e.Event, &env)
		if err := block.AppendEvent(e.Stream, 1, e.Event.ID, &env); err != nil {
			return err
		}
	}
	types, usable := t.d.Source.TypeCondition("type"), t.d.Usable()
	rows, err := t.db.Preview(ctx, block, "SELECT stream, toString(id_ms) || '-' || toString(id_seq) AS id, "+t.d.Unusable()+
		" AS reason FROM events WHERE "+types, max(block.Len(), 1))
	if err != nil {
		return err
	}
	for _, row := range rows.Rows {
		t.trial.Used++
		if reason := plain(row[2]); reason != "" {
			if err := t.unusable(plain(row[0]), plain(row[1]), reason); err != nil {
				return err
			}
		}
	}
	columns, err := t.db.Describe(ctx, t.d.Select)
	if err != nil {
		return err
	}
	load := t.load()
	load.Select = t.d.Select
	for _, c := range columns {
		load.Columns = append(load.Columns, c.Name)
	}
	_, err = t.db.LoadBlock(ctx, block, types+" AND "+usable, load)
	return err
}

func (t *trialRun) unusable(stream, id, reason string) error {
	parsed, err := event.ParseID(id)
	if err != nil {
		return err
	}
	t.trial.Used--
	t.trial.Unusable = append(t.trial.Unusable, Unusable{stream, parsed, reason})
	return nil
}

// inGo calls the definition's function.
func (t *trialRun) inGo(ctx context.Context, events []Recorded) error {
	matcher, err := filterOf(&t.d.Source)
	if err != nil {
		return err
	}
	rows, err := NewRows(&t.d.Table)
	if err != nil {
		return err
	}
	take, finish, err := t.function(rows)
	if err != nil {
		return err
	}
	extractor := event.DefaultMapping().Extractor()
	var (
		reader Reader
		env    event.Envelope
		e      Event
	)
	if reader.Only, err = t.set.Reads(t.d); err != nil {
		return err
	}
	for i := range events {
		from := &events[i]
		extractor.Extract(&from.Event, &env)
		kind, _ := env.Text(event.Type)
		if !t.d.Source.MatchesStream(from.Stream) || !matcher.MatchType(kind) {
			continue
		}
		reader.Read(&e, from.Stream, 1, &from.Event, &env)
		t.trial.Used++
		if reason := take(&e); reason != nil {
			if err := t.unusable(from.Stream, from.Event.ID.String(), reason.Error()); err != nil {
				return err
			}
		}
	}
	if err := finish(); err != nil {
		return err
	}
	if rows.Len() == 0 {
		return nil
	}
	_, err = t.db.LoadRows(ctx, rows.Block(), t.load())
	return err
}

func filterOf(s *Source) (*event.Matcher, error) {
	filter := s.Filter()
	return filter.Compile()
}

// function gives what takes an event, and what is to be done after the last one.
func (t *trialRun) function(rows *Rows) (take func(*Event) error, finish func() error, err error) {
	if t.d.Kind == Map {
		take, err := t.set.Adder(t.d, rows)
		return take, func() error { return nil }, err
	}
	folder, err := t.set.Folder(t.d)
	states := make(map[string]any)
	var keys []string // in the order in which they came
	return func(e *Event) error {
			key := folder.Key(e)
			if key == "" {
				return nil
			}
			state, known := states[key]
			if !known {
				state = folder.Init()
			}
			next, err := folder.Apply(state, e)
			if err != nil {
				return err
			}
			if !known {
				keys = append(keys, key)
			}
			states[key] = next
			return nil
		}, func() error {
			for _, key := range keys {
				made, err := folder.Rows(key, states[key])
				if err == nil {
					err = rows.Append(made...)
				}
				if err != nil {
					return fmt.Errorf("aggregate %.80q: %w", key, err)
				}
			}
			return nil
		}, err
}
