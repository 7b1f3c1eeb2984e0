package chstore_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/reservoirhq/reservoir/chstore"
)

// Both ways in which links are proved give the same, and find rows that are gone, that
// were left, and that came from elsewhere.
func TestProofsOfLinks(t *testing.T) {
	store, _ := connect(t, chstore.Config{})
	ctx := t.Context()
	for engine, physical := range map[string]uint64{"MergeTree": 300, "SummingMergeTree": 10, "ReplacingMergeTree": 10} {
		spec := spec(engine).Quiet()
		from, via, to := made(t, store, "from_"+engine, spec, 900), made(t, store, "via_"+engine, spec, 0), made(t, store, "to_"+engine, spec, 0)
		kind, err := spec.Kind()
		if err != nil {
			t.Fatal(err)
		}
		links := chstore.Links{From: from, Via: via, To: to, Kind: kind, Except: "tenant = 'acme'", ByKey: true}
		rows, err := store.LinkExcept(ctx, links)
		if err != nil {
			t.Fatal(err)
		}
		byParts, byRows, err1, err2 := store.ProveLinked(ctx, links, physical)
		if err := errors.Join(err1, err2); err != nil || byParts != rows || byRows != rows {
			t.Errorf("%s: %d rows, by parts %d, by rows %d, %v", engine, rows, byParts, byRows, err)
		}
		for what, statement := range map[string]string{
			"gone":            "DELETE FROM %s WHERE tenant = 'globex' AND id = 'o1'",
			"of the scope":    "ALTER TABLE %s ATTACH PARTITION ID 'all' FROM " + from.String(),
			"instead of some": "ALTER TABLE %s REPLACE PARTITION ID 'all' FROM " + from.String(),
		} {
			if _, err := store.LinkExcept(ctx, links); err != nil {
				t.Fatal(err)
			}
			if same, err := store.SameParts(ctx, via, to); err != nil || !same {
				t.Errorf("%s: the parts are the same: %v, %v", engine, same, err)
			}
			if err := store.Exec(ctx, "change", fmt.Sprintf(statement, to)); err != nil {
				t.Fatal(err)
			}
			if same, err := store.SameParts(ctx, via, to); err != nil || same {
				t.Errorf("%s, rows %s: the parts are the same: %v, %v", engine, what, same, err)
			}
			if err := store.Exec(ctx, "change", fmt.Sprintf(statement, via)); err != nil { // which is what parts prove
				t.Fatal(err)
			}
			_, _, err1, err2 := store.ProveLinked(ctx, links, physical)
			for way, err := range map[string]error{"parts": err1, "rows": err2} {
				if !errors.Is(err, chstore.ErrUnproved) {
					t.Errorf("%s, rows %s: by %s it is proved: %v", engine, what, way, err)
				}
			}
			links.Expires = true
			_, _, err1, err2 = store.ProveLinked(ctx, links, physical)
			if !errors.Is(err1, chstore.ErrUnproved) || errors.Is(err2, chstore.ErrUnproved) != (what != "gone") {
				t.Errorf("%s, rows %s, and they expire: %v, %v", engine, what, err1, err2)
			}
			links.Expires = false
		}
	}
}

// A key of which some rows meet the condition reads otherwise without them: that is found
// where the condition is not one of the key.
func TestLinksOfPartsOfKeys(t *testing.T) {
	store, _ := connect(t, chstore.Config{})
	spec := spec("ReplacingMergeTree")
	spec.OrderBy = "id"
	from, via, to := made(t, store, "f", spec.Quiet(), 90), made(t, store, "v", spec.Quiet(), 0), made(t, store, "t", spec, 0)
	load := chstore.Load{Into: from, Columns: spec.Names(), Select: "SELECT tenant, aggregate_id AS id, 1 AS amount FROM events", Chunk: 2}
	if _, err := store.LoadBlock(t.Context(), block(t, sample(10)), "tenant = 'globex'", load); err != nil {
		t.Fatal(err)
	}
	if _, err := store.LinkExcept(t.Context(), chstore.Links{From: from, Via: via, To: to, Kind: chstore.Replacing, Except: "tenant = 'globex'"}); !errors.Is(err, chstore.ErrUnproved) {
		t.Errorf("%v", err)
	}
}

// In a Quiet table nothing is merged, and no row expires; where rows expire while they are
// carried over, there are fewer of them, and that is no error.
func TestRowsExpireWhileTheyAreCarriedOver(t *testing.T) {
	store, engine := connect(t, chstore.Config{})
	ctx := t.Context()
	spec := spec("MergeTree")
	spec.TTL, spec.Settings = "toDateTime(amount) + INTERVAL 1 DAY DELETE", map[string]string{"merge_with_ttl_timeout": "0"}
	from := made(t, store, "f", spec.Quiet(), 900)
	for i := range 3 {
		to, linked := made(t, store, fmt.Sprintf("copied_%d", i), spec, 0), made(t, store, fmt.Sprintf("linked_%d", i), spec, 0)
		via := made(t, store, fmt.Sprintf("via_%d", i), spec.Quiet(), 0)
		if rows, err := store.CopyExcept(ctx, from, to, spec.Names(), "tenant = 'acme'", 5, true, nil); err != nil || rows != 600 {
			t.Errorf("%d rows copied, %v", rows, err)
		}
		if rows, err := store.LinkExcept(ctx, chstore.Links{From: from, Via: via, To: linked, Kind: chstore.Keeping, Except: "tenant = 'acme'", Expires: true}); err != nil || rows > 600 {
			t.Errorf("%d rows linked, %v", rows, err)
		}
		for _, table := range []chstore.Table{to, linked} {
			if _, err := engine.Query(ctx, "OPTIMIZE TABLE "+table.String()+" FINAL"); err != nil {
				t.Fatal(err)
			}
			if rows, err := store.Rows(ctx, table); err != nil || rows != 0 {
				t.Errorf("%s has %d rows, %v: they have all expired", table.Name, rows, err)
			}
		}
	}
	if rows, err := store.Rows(ctx, from); err != nil || rows != 900 {
		t.Errorf("%d rows are left of what is quiet, %v", rows, err)
	}
}
