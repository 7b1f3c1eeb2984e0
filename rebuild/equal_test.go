package rebuild_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/projection/examples"
	"github.com/reservoirhq/reservoir/rebuild"
)

// send adds events to their streams, with the IDs that they have.
func (k *kitchen) send(events []projection.Recorded) {
	k.t.Helper()
	for some := range slices.Chunk(events, 500) {
		pipe := k.raw.Pipeline()
		for i := range some {
			var values []string
			for _, f := range some[i].Event.Fields {
				values = append(values, string(f.Name), string(f.Value))
			}
			pipe.XAdd(k.t.Context(), &redis.XAddArgs{Stream: some[i].Stream, ID: some[i].Event.ID.String(), Values: values})
		}
		_, err := pipe.Exec(k.t.Context())
		k.must(err)
	}
}

// ways are how a rebuild takes events to ClickHouse.
func ways(d *projection.Definition) []rebuild.Spec {
	list := []rebuild.Spec{{Way: rebuild.WayGo}, {Way: rebuild.WayGo, Format: archive.JSONL}}
	if d.Kind == projection.SQL {
		list = append(list, rebuild.Spec{Way: rebuild.WayPushdown})
	}
	for i := range list {
		list[i].Projection, list[i].Concurrency = d.Name, 3
	}
	return list
}

// reordered creates a rebuild that is cut into chunks of a few segments, and of parts of
// one, in any order.
func (k *kitchen) reordered(spec rebuild.Spec, random *rand.Rand) (id string, chunks int) {
	k.t.Helper()
	job := k.create(spec)
	plan, err := k.svc.Plan(k.t.Context(), job.ID)
	k.must(err)
	segments := map[string]*archive.PlannedSegment{}
	for _, s := range plan.Streams {
		of, err := k.arch.Plan(k.t.Context(), archive.PlanSpec{Stream: string(s.Stream), Format: spec.Format})
		k.must(err)
		for seg, err := range of.Segments(k.t.Context()) {
			k.must(err)
			segments[seg.Path] = &seg
		}
	}
	var cut []rebuild.Chunk
	for _, c := range plan.Chunks {
		for len(c.Objects) > 0 {
			n := 1 + random.IntN(min(3, len(c.Objects)))
			cut = append(cut, pieces(&c, segments, n, random)...)
			c.Objects = c.Objects[n:]
		}
	}
	random.Shuffle(len(cut), func(i, j int) { cut[i], cut[j] = cut[j], cut[i] })
	plan.Chunks = cut
	text, err := json.Marshal(plan)
	k.must(err)
	_, err = k.jobs.Files(job.ID).Put(k.t.Context(), "plan.json", bytes.NewReader(text), objectstore.Always)
	k.must(err)
	_, err = k.svc.Approve(k.t.Context(), job.ID, "test") // whatever is put aside
	k.must(err)
	return job.ID, len(cut)
}

// pieces makes a chunk of the first n segments of another one, or two of one of them.
func pieces(of *rebuild.Chunk, segments map[string]*archive.PlannedSegment, n int, random *rand.Rand) []rebuild.Chunk {
	c := *of
	c.Objects, c.Events, c.Bytes = of.Objects[:n:n], 0, 0
	for _, path := range c.Objects {
		s := segments[path]
		c.Events += s.Count
		c.Bytes += s.Bytes
	}
	c.Range = event.Range{From: segments[c.Objects[0]].First, To: segments[c.Objects[n-1]].Last}
	span := c.Range.To.Ms - c.Range.From.Ms
	if n > 1 || span == 0 || random.IntN(2) == 0 {
		return []rebuild.Chunk{c}
	}
	first, second := c, c
	first.Whole, second.Whole = false, false
	first.Range.To = event.ID{Ms: c.Range.From.Ms + random.Uint64N(span)}
	second.Range.From = first.Range.To.Next()
	first.Events = c.Events / 2
	second.Events -= first.Events
	return []rebuild.Chunk{first, second}
}

// asRead is a SELECT of the rows of a table as texts, as they read and without lineage.
func asRead(name string, table *projection.Table) string {
	var values []string
	for _, c := range table.Columns {
		if strings.HasPrefix(c.Type, "AggregateFunction") {
			values = append(values, "finalizeAggregation("+c.Name+")")
		} else {
			values = append(values, c.Name)
		}
	}
	final := " FINAL"
	if table.EngineName() == "MergeTree" {
		final = ""
	}
	return "SELECT toString(tuple(" + strings.Join(values, ", ") + ")) AS row FROM " + name + final
}

// tableSum tells what a table holds: how many rows, and the sum of their hashes.
func (k *kitchen) tableSum(name string, table *projection.Table) string {
	k.t.Helper()
	return k.query("SELECT count(), sum(sipHash64(row)) FROM (%s)", asRead(name, table))
}

// sums are those of the tables of a projection, under other names.
func (k *kitchen) sums(d *projection.Definition, suffix string) map[string]string {
	k.t.Helper()
	out := map[string]string{d.Table.Name: k.tableSum(d.Table.Name+suffix, &d.Table)}
	for i := range d.Dependents {
		table := &d.Dependents[i].Table
		out[table.Name] = k.tableSum(table.Name+suffix, table)
	}
	return out
}

// different says what is different about the tables of a projection from those of one pass.
func (k *kitchen) different(d *projection.Definition) string {
	k.t.Helper()
	text := fmt.Sprintf("%v, want %v", k.sums(d, ""), k.sums(d, onePass))
	tables := []*projection.Table{&d.Table}
	for i := range d.Dependents {
		tables = append(tables, &d.Dependents[i].Table)
	}
	for _, table := range tables {
		is, want := asRead(table.Name, table), asRead(table.Name+onePass, table)
		text += fmt.Sprintf("\nin %s: %s\nis not there: %s", table.Name, k.query("SELECT * FROM ((%s) EXCEPT (%s)) LIMIT 3", is, want), k.query("SELECT * FROM ((%s) EXCEPT (%s)) LIMIT 3", want, is))
	}
	return text
}

// onePass ends the names of tables that were made in one pass.
const onePass = "_once"

// inOnePass makes the tables of a projection of all events in order at once, and without
// any of what rebuilds and projectors are made of: by one INSERT, or by the functions one
// event after the other. It returns the events that cannot be used: those that do not
// meet what is required, or good, which says on which of them the SELECT does not fail.
func (k *kitchen) inOnePass(d *projection.Definition, good string, events []projection.Recorded) []string {
	k.t.Helper()
	table := func(of *projection.Table) chstore.Table {
		into := k.db.Table(of.Name + onePass)
		k.must(k.db.CreateTable(k.t.Context(), into, of.Spec(), chstore.Mark{Projection: d.Name + onePass, Generation: 1, Role: of.Name}))
		return into
	}
	into := table(&d.Table)
	var letters []string
	if d.Kind == projection.SQL {
		letters = k.insertOnce(d, into.Name, good, events)
	} else {
		letters = k.foldOnce(d, into, events)
	}
	for i := range d.Dependents {
		dep := &d.Dependents[i]
		names := columnNames(&dep.Table)
		k.query("INSERT INTO %s (%s) SELECT %s FROM (%s) SETTINGS compile_aggregate_expressions = 0", table(&dep.Table).Name, names, names, strings.ReplaceAll(dep.Select, projection.TablePlaceholder, into.Name))
	}
	slices.Sort(letters)
	return letters
}

func columnNames(t *projection.Table) string {
	var names []string
	for _, c := range t.Columns {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}

// sources calls take for the events that a projection is made of, as functions see them.
func sources(d *projection.Definition, events []projection.Recorded, take func(*projection.Event)) {
	var patterns []string
	for _, t := range d.Source.Types {
		patterns = append(patterns, strings.ReplaceAll(regexp.QuoteMeta(t), `\*`, ".*"))
	}
	types := regexp.MustCompile(`(?s)^(` + strings.Join(patterns, "|") + `)$`)
	var (
		reader projection.Reader
		env    event.Envelope
		e      projection.Event
	)
	extractor := event.DefaultMapping().Extractor()
	for i := range events {
		extractor.Extract(&events[i].Event, &env)
		reader.Read(&e, events[i].Stream, 1, &events[i].Event, &env)
		if d.Source.MatchesStream(e.Stream) && (len(patterns) == 0 || types.MatchString(e.Type)) {
			take(&e)
		}
	}
}

func where(stream string, id event.ID) string { return fmt.Sprintf("%s %s", stream, id) }

// insertOnce puts the events into a table as the relation that SELECTs read, and their
// rows with one statement into another one.
func (k *kitchen) insertOnce(d *projection.Definition, into, good string, events []projection.Recorded) (letters []string) {
	k.t.Helper()
	from := into + "_events"
	var columns, shown []string
	for _, c := range chstore.EventColumns() {
		show := c.Name
		if c.Name == "occurred_at" { // of any year
			c.Type, show = "Int64", "fromUnixTimestamp64Micro(occurred_at, 'UTC') AS occurred_at"
		}
		columns, shown = append(columns, c.Name+" "+c.Type), append(shown, show)
	}
	k.query("CREATE TABLE %s (%s) ENGINE = MergeTree ORDER BY (stream, id_ms, id_seq)", from, strings.Join(columns, ", "))
	var rows bytes.Buffer
	sources(d, events, func(e *projection.Event) {
		row := map[string]any{
			"stream": e.Stream, "incarnation": e.Incarnation, "id_ms": e.ID.Ms, "id_seq": e.ID.Seq, "event_id": e.EventID, "type": e.Type,
			"tenant": e.Tenant, "aggregate_type": e.AggregateType, "aggregate_id": e.AggregateID, "version": nil, "occurred_at": e.OccurredAt.UnixMicro(),
			"correlation_id": e.CorrelationID, "causation_id": e.CausationID, "schema_version": e.SchemaVersion, "payload": e.Payload,
		}
		if e.HasVersion {
			row["version"] = e.Version
		}
		k.must(json.NewEncoder(&rows).Encode(row))
	})
	if rows.Len() > 0 {
		_, err := k.ch.Query(k.t.Context(), "INSERT INTO "+from+" FORMAT JSONEachRow\n"+rows.String())
		k.must(err)
	}
	relation := "(SELECT " + strings.Join(shown, ", ") + " FROM (SELECT * FROM " + from + " ORDER BY stream, id_ms, id_seq))"
	usable := d.Usable()
	if good != "" {
		usable += " AND (" + good + ")"
	}
	names := columnNames(&d.Table)
	k.query("INSERT INTO %s (%s) WITH events AS (SELECT * FROM %s WHERE %s) SELECT %s FROM (%s)", into, names, relation, usable, names, d.Select)
	out := k.query("SELECT concat(stream, ' ', toString(id_ms), '-', toString(id_seq)) FROM %s WHERE NOT (%s)", relation, usable)
	return strings.FieldsFunc(out, func(r rune) bool { return r == '\n' })
}

// foldOnce calls the functions of a fold.
func (k *kitchen) foldOnce(d *projection.Definition, into chstore.Table, events []projection.Recorded) (letters []string) {
	k.t.Helper()
	set, err := k.defs.set()
	k.must(err)
	folder, err := set.Folder(d)
	k.must(err)
	states := map[string]any{}
	sources(d, events, func(e *projection.Event) {
		key := folder.Key(e)
		if key == "" {
			return
		}
		state, ok := states[key]
		if !ok {
			state = folder.Init()
		}
		if state, err = folder.Apply(state, e); err != nil {
			letters = append(letters, where(e.Stream, e.ID))
			return
		}
		states[key] = state
	})
	rows, err := projection.NewRows(&d.Table)
	k.must(err)
	for _, key := range slices.Sorted(maps.Keys(states)) {
		made, err := folder.Rows(key, states[key])
		k.must(err)
		k.must(rows.Append(made...))
	}
	_, err = k.db.LoadRows(k.t.Context(), rows.Block(), chstore.Load{Into: into, Chunk: 1})
	k.must(err)
	return letters
}

// everyWay makes sure that all rebuilds make of events what one pass makes of them, in
// chunks in any order, and put the same events aside. Live, the tables are that already.
func (k *kitchen) everyWay(d *projection.Definition, letters []string, random *rand.Rand) (wrong []string) {
	k.t.Helper()
	want := k.sums(d, onePass)
	for _, spec := range ways(d) {
		id, chunks := k.reordered(spec, random)
		k.run(id)
		what := fmt.Sprintf("%s by %s from %q in %d chunks", d.Name, spec.Way, spec.Format, chunks)
		if got := k.sums(d, ""); !maps.Equal(got, want) {
			wrong = append(wrong, what+" is "+k.different(d))
		}
		var aside []string
		for l, err := range k.svc.DeadLetters(k.t.Context(), id) {
			k.must(err)
			aside = append(aside, where(l.Stream, l.ID))
		}
		if slices.Sort(aside); !slices.Equal(aside, letters) {
			wrong = append(wrong, fmt.Sprintf("%s puts %d events aside, want %d: %q and %q", what, len(aside), len(letters), minus(aside, letters), minus(letters, aside)))
		}
	}
	return wrong
}

// minus gives the first of a that are not in b.
func minus(a, b []string) []string {
	a = slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
	return a[:min(len(a), 5)]
}

// becomesOnePass waits until the live tables are what one pass makes.
func (k *kitchen) becomesOnePass(d *projection.Definition) {
	k.t.Helper()
	want := k.sums(d, onePass)
	eventually(k.t, 30*time.Second, func() bool { return maps.Equal(k.sums(d, ""), want) }, func() string {
		return d.Name + ", live from the start, is " + k.different(d)
	})
}

// numbered gives events IDs by their times, several in a millisecond.
func numbered(events []projection.Recorded, at func(i int) time.Time) {
	last := map[string]event.ID{}
	for i := range events {
		e := &events[i]
		id := event.ID{Ms: uint64(at(i).UnixMilli())} //nolint:gosec // after 1970
		if !last[e.Stream].Less(id) {
			id = last[e.Stream].Next()
		}
		e.Event.ID, last[e.Stream] = id, id
	}
}

// awkward makes events of a shop's ones that people do not think of. None is the same
// order as another one.
func awkward(from []projection.Recorded) []projection.Recorded {
	long := strings.Repeat("long ", 300)
	set := func(pairs ...string) func(*event.Event) {
		return func(e *event.Event) {
			for i := 0; i < len(pairs); i += 2 {
				at := slices.IndexFunc(e.Fields, func(f event.Field) bool { return string(f.Name) == pairs[i] })
				if at < 0 {
					e.Fields = append(e.Fields, event.Field{Name: []byte(pairs[i])})
					at = len(e.Fields) - 1
				}
				e.Fields[at].Value = []byte(pairs[i+1])
			}
		}
	}
	without := func(name string) func(*event.Event) {
		return func(e *event.Event) {
			e.Fields = slices.DeleteFunc(e.Fields, func(f event.Field) bool { return string(f.Name) == name })
		}
	}
	untraced := func(change func(*event.Event)) func(*event.Event) {
		return func(e *event.Event) {
			change(e)
			without("correlation_id")(e)
		}
	}
	changes := []func(*event.Event){
		without("payload"), without("tenant"), without("aggregate_version"), without("occurred_at"), without("event_id"), without("aggregate_id"), without("event_type"),
		set("tenant", ""), set("tenant", "\xff\x00"), set("tenant", "日本 🚀"), set("tenant", "a\tb\nc'\\d\x00e"), set("tenant", long), set("event_id", long), set("event_id", ""),
		set("aggregate_id", "\xc3\x28"), set("aggregate_version", "-3"), set("aggregate_version", "0"), set("aggregate_version", "9223372036854775807"),
		set("aggregate_version", "9223372036854775808"), set("aggregate_version", "1.5"), set("aggregate_version", ""), set("aggregate_version", " 7"),
		set("occurred_at", ""), set("occurred_at", "1760000000000"), set("occurred_at", "2025-10-09T10:00:00+05:30"), set("occurred_at", "1999-12-31T23:59:59.999999999Z"),
		untraced(set("occurred_at", "1900-01-01T00:00:00Z")), untraced(set("occurred_at", "2299-12-31T23:59:59.999999Z")), untraced(set("occurred_at", "1969-12-31T23:59:59.999999Z")),
		set("event_type", "OrderPaid\xff"), set("event_type", "OrderPaid "+long), set("event_type", ""), set("event_type", "Order%_*"), set("event_type", "orderpaid"),
		func(e *event.Event) { e.Fields = append(e.Fields, e.Fields[9], e.Fields[2], e.Fields[1]) },
		func(e *event.Event) {
			e.Fields = slices.Insert(e.Fields, 0, event.Field{Name: []byte("tenant"), Value: []byte("first")})
		},
	}
	for _, payload := range []string{
		``, ` `, `null`, `{}`, `[]`, `"text"`, `{"order":null}`, `{"order":`, `{"order":%d} and more`, " \n{\"order\":%d,\"amount\":{\"cents\":5}}",
		`{"order":"%d","amount":{"cents":5}}`, `{"order":%d,"amount":{"cents":"5"}}`, `{"order":%d,"amount":{"cents":1e30}}`, `{"order":%d,"amount":{"cents":-5}}`,
		`{"order":%d,"amount":{"cents":1.5}}`, `{"order":%d,"amount":{"cents":18446744073709551615}}`, `{"order":%d,"amount":{"cents":18446744073709551616}}`,
		`{"order":%d,"amount":{"cents":9007199254740993,"currency":null},"item":null,"customer":7}`, `{"order":%d,"amount":{"cents":92233720368547758,"currency":""}}`,
		`{"order":%d,"order":8,"amount":{"cents":1,"cents":2,"currency":"EUR"}}`, `{"order":%d,"amount":[5],"customer":[]}`, `{"order":%d,"amount":null}`,
		`{"order":%d,"amount":{"cents":5,"currency":"\u00e9\ud83d\ude80\u0000'\\"},"customer":{"id":"日本","country":"` + long + `"}}`,
		`{"order":%d,"amount":{"cents":5},"item":{"sku":1,"quantity":"1"},"customer":{"id":5,"country":true},"channel":{}}`,
		`{"order":%d,"amount":{"cents":5,"currency":"EUR"},"item":{"sku":"a","quantity":-1},"customer":{"id":"","country":"` + "\xff" + `"}}`,
	} {
		changes = append(changes, func(e *event.Event) {
			n := bytes.Clone(e.Fields[4].Value)
			set("payload", strings.ReplaceAll(payload, "%d", string(n)))(e)
		})
	}
	out := make([]projection.Recorded, 0, 3*len(changes))
	for i, change := range changes {
		for j, kind := range []string{"OrderPaid", "PaymentCaptured", "ShipmentPacked"} {
			e := from[0].Event.Clone()
			set("event_id", fmt.Sprintf("awkward-%d-%d", i, j), "aggregate_id", fmt.Sprint(1_000_000+10*i+j), "event_type", kind,
				"payload", strings.Replace(string(e.Fields[9].Value), `"order":1,`, fmt.Sprintf(`"order":%d,`, 1_000_000+10*i+j), 1))(&e)
			change(&e)
			out = append(out, projection.Recorded{Stream: shop.Streams[j], Event: e})
		}
	}
	return out
}

// Whatever way the events of a shop take, and in whatever order, the tables of the
// examples are what one pass over them makes.
func TestExamplesAreTheSameEveryWay(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // after 1970
	t.Logf("the seed is %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	begin := time.Date(2025, 10, 9, 7, 30, 0, 0, time.UTC)
	made := shop.New(shop.Options{Seed: seed, Start: begin, Every: 30 * time.Second, Malformed: 0.05})
	var events []projection.Recorded
	for range 1200 {
		stream, e := made.Next()
		events = append(events, projection.Recorded{Stream: stream, Event: e})
	}
	first := shop.New(shop.Options{Seed: seed, Start: begin})
	_, sound := first.Next()
	for _, e := range awkward([]projection.Recorded{{Event: sound}}) {
		events = slices.Insert(events, 100+random.IntN(len(events)-100), e)
	}
	numbered(events, func(i int) time.Time { return begin.Add(time.Duration(i/4) * 2 * time.Minute) })

	k := newKitchen(t, true, examples.Functions()...)
	k.withStates()
	for _, name := range []string{"orders", "revenue", "order_timeline", "traces", "shipments"} {
		text, err := examples.Files().ReadFile(name + ".yaml")
		k.must(err)
		k.defs.put(name, string(text))
	}
	set, err := k.defs.set()
	k.must(err)
	// Live from the start.
	const early = 60
	k.send(events[:early])
	k.archiveAll(20)
	for d := range set.All() {
		k.build(rebuild.Spec{Projection: d.Name})
	}
	stop := k.project()
	for some := range slices.Chunk(events[early:], 300) { // the last ones stay live only
		k.archiveAll(uint64(20 + random.IntN(60))) //nolint:gosec // small
		k.send(some)
	}
	slices.SortStableFunc(events, func(a, b projection.Recorded) int { return strings.Compare(a.Stream, b.Stream) })
	letters := map[string][]string{}
	for d := range set.All() {
		good := ""
		if d.Name == "orders" || d.Name == "revenue" {
			good = "JSONExtractUInt(payload, 'amount', 'cents') <= 92233720368547758" // as much as a Decimal64 of two digits has
		}
		letters[d.Name] = k.inOnePass(d, good, events)
		k.becomesOnePass(d)
	}
	stop()
	for d := range set.All() {
		for table, sum := range k.sums(d, onePass) {
			if rows, _, _ := strings.Cut(sum, "\t"); len(rows) < 1 || rows == "0" {
				t.Errorf("%s has no rows", table)
			}
		}
		if d.Name != "order_timeline" && len(letters[d.Name]) == 0 {
			t.Errorf("%s can use all events", d.Name)
		}
		for _, wrong := range k.everyWay(d, letters[d.Name], random) {
			t.Error(wrong)
		}
	}
}
