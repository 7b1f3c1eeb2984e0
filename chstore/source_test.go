package chstore_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/objectstore"
)

// strange returns events that have everything that a careless producer may send.
func strange() *event.Batch {
	var b event.Batch
	add := func(fields ...string) {
		e := event.Event{ID: event.ID{Ms: 1_760_000_000_000 + uint64(b.Len()), Seq: uint64(b.Len() % 2)}}
		for i := 0; i < len(fields); i += 2 {
			e.Fields = append(e.Fields, event.Field{Name: []byte(fields[i]), Value: []byte(fields[i+1])})
		}
		b.Append(&e)
	}
	add("type", "A")
	add("nothing", "known")
	add("", "")
	add("event_id", "\xff\xfe", "tenant", "a\xc3", "payload", "\x80")
	add("tenant", strings.Repeat("x", 1024), "aggregate_id", strings.Repeat("y", 1025), "payload", strings.Repeat("z", 5000))
	for _, version := range []string{"1", "-1", "007", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "x", "", "1.5"} {
		add("type", "V", "version", version)
	}
	for _, at := range []string{
		"2026-11-21T07:08:09.123456Z", "2026-11-21T07:08:09+05:30", "1600000000", "1600000000123", "1600000000123456", "1600000000123456789", "1600000000.5",
		"0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "1899-12-31T23:59:59Z", "1900-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "2262-05-01T00:00:00Z",
		"2299-12-31T23:59:59.999999Z", "2300-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "soon", "",
	} {
		add("type", "T", "occurred_at", at)
	}
	add("data", `{"a":"\u0000\\ ' \" é","b":null}`, "type", "it's \\ `q` \x00\n\t")
	add("data", `{"id":"1","type":"Doc","tenant":"acme","data":{"x":1}}`)
	return &b
}

// shopEvents returns n events of one stream of the shop, and their IDs as Redis gives them.
func shopEvents(n int) *event.Batch {
	s := shop.New(shop.Options{Seed: 7, Malformed: 0.02})
	var b event.Batch
	for b.Len() < n {
		stream, e := s.Next()
		if stream != shop.Orders {
			continue
		}
		e.ID = event.ID{Ms: 1_760_000_000_000 + uint64(b.Len()/3), Seq: uint64(b.Len() % 3)}
		b.Append(&e)
	}
	return &b
}

func TestPushedDownEqualsSent(t *testing.T) {
	store, _ := connect(t, chstore.Config{})
	s3Store, s3 := onS3(t)
	dir := t.TempDir()
	local, err := objectstore.NewLocal(dir, objectstore.LocalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, batch := range map[string]*event.Batch{"strange": strange(), "shop": shopEvents(5000)} {
		stream := "it's:{a}`" + name
		fromS3 := archived(t, s3Store, stream, batch)
		fromS3.S3 = s3
		fromFile := archived(t, local, stream, batch)
		for i, key := range fromFile.Keys {
			fromFile.Keys[i] = filepath.Join(dir, key)
		}
		b, err := chstore.NewBlock()
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Append(stream, 1, batch, event.Mapping{}.Extractor()); err != nil {
			t.Fatal(err)
		}
		for where, types := range map[string][]string{"": nil, "tenant = ''": nil, "version IS NULL": nil, "tenant = 'acme'": {"OrderPlaced", "Doc"}, "aggregate_id != '' OR type = 'T'": nil} {
			sent := "SELECT * FROM events WHERE " + conditions(where, types) + " ORDER BY id_ms, id_seq"
			want, err := store.Preview(t.Context(), b, sent, batch.Len())
			if err != nil {
				t.Fatal(err)
			}
			if where == "" && len(want.Rows) != batch.Len() {
				t.Fatalf("%d rows of %d events", len(want.Rows), batch.Len())
			}
			for kind, source := range map[string]chstore.Source{"s3": fromS3, "file": fromFile} {
				source.Where, source.Types = where, types
				got, err := store.PreviewFiles(t.Context(), source, "SELECT * FROM events ORDER BY id_ms, id_seq", batch.Len())
				if err != nil {
					t.Fatal(err)
				}
				same(t, fmt.Sprintf("%s %s where %q", name, kind, where), got, want)
			}
		}
	}
}

func conditions(where string, types []string) string {
	parts := []string{"true"}
	if where != "" {
		parts = append(parts, "("+where+")")
	}
	if len(types) > 0 {
		parts = append(parts, "type IN ("+chstore.Literals(types)+")")
	}
	return strings.Join(parts, " AND ")
}

func same(t *testing.T, what string, got, want chstore.Rows) {
	t.Helper()
	if !slices.Equal(got.Columns, want.Columns) {
		t.Errorf("%s: columns\n%v, want\n%v", what, got.Columns, want.Columns)
	}
	if len(got.Rows) != len(want.Rows) {
		t.Errorf("%s: %d rows, want %d", what, len(got.Rows), len(want.Rows))
	}
	for i := range min(len(got.Rows), len(want.Rows)) {
		for c := range want.Columns {
			if string(got.Rows[i][c]) != string(want.Rows[i][c]) {
				t.Errorf("%s: row %d: %s is %.100s, want %.100s", what, i, want.Columns[c].Name, got.Rows[i][c], want.Rows[i][c])
			}
		}
	}
}

func TestRangeOfFiles(t *testing.T) {
	store, _ := connect(t, chstore.Config{})
	s3Store, s3 := onS3(t)
	batch := sample(3000)
	source := archived(t, s3Store, "orders", batch)
	source.S3 = s3
	for _, r := range []event.Range{
		{}, {From: batch.ID(1)}, {To: batch.ID(2998)}, {From: batch.ID(100), To: batch.ID(200)}, {From: batch.ID(500), To: batch.ID(500)},
		{From: event.ID{Ms: batch.ID(9).Ms, Seq: batch.ID(9).Seq + 1}}, {To: event.ID{Ms: batch.ID(8).Ms, Seq: batch.ID(8).Seq - 1}}, {From: event.MaxID},
	} {
		want := uint64(0)
		for i := range batch.Len() {
			if r.Contains(batch.ID(i)) {
				want++
			}
		}
		source.Range = r
		if rows, err := store.Count(t.Context(), source, "SELECT 1 FROM events"); err != nil || rows != want {
			t.Errorf("%s: %d rows, %v; want %d", r, rows, err, want)
		}
	}
}

func TestSourcesThatCannotBePushedDown(t *testing.T) {
	store, _ := connect(t, chstore.Config{})
	for _, source := range []chstore.Source{
		{Keys: []string{"relative.parquet"}},
		{Keys: []string{"/a/{b}.parquet"}},
		{S3: &chstore.S3{Bucket: "b"}, Keys: []string{"what?.parquet"}},
	} {
		if _, err := store.Count(t.Context(), source, "SELECT 1 FROM events"); !errors.Is(err, chstore.ErrNotPushable) {
			t.Errorf("%v: %v", source.Keys, err)
		}
	}
}

// TestBoundValues: whatever is in the name of a stream or of a type comes through, over
// both protocols.
func TestBoundValues(t *testing.T) {
	_, engine := connect(t, chstore.Config{})
	var all []byte
	for c := range 256 {
		all = append(all, byte(c))
	}
	dir := t.TempDir()
	local, err := objectstore.NewLocal(dir, objectstore.LocalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, archived(t, local, "any", sample(20)).Keys[0])
	for _, url := range []string{engine.URL(), engine.HTTPURL()} {
		store := open(t, chstore.Config{URL: url})
		for _, name := range []string{"shop:orders", `it's \ "quoted" {x:String} ?`, "line\nbreak\ttab\x00nul", "ünï©ode", string(all)} {
			source := chstore.Source{Stream: name, Incarnation: 1, Keys: []string{path}, Types: []string{"OrderPaid", name}}
			n, err := store.Count(t.Context(), source, "SELECT 1 AS x FROM events WHERE hex(stream) = '"+strings.ToUpper(hex.EncodeToString([]byte(name)))+"'")
			if err != nil || n != 10 {
				t.Errorf("stream %q: %d events, %v", name, n, err)
			}
		}
	}
}
