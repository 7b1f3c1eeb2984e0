package rebuild_test

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// passed has the time of the previous generations of a projection be over.
func (k *kitchen) passed(name string) {
	k.t.Helper()
	key := "projections/" + name + ".json"
	body, _, err := k.store.Get(k.t.Context(), key, objectstore.ByteRange{})
	k.must(err)
	text, err := io.ReadAll(body)
	k.must(errors.Join(err, body.Close()))
	over := regexp.MustCompile(`"drop_after":\s*"[^"]*"`).ReplaceAll(text, []byte(`"drop_after":"`+time.Now().UTC().Add(-time.Second).Format(time.RFC3339)+`"`))
	if bytes.Equal(over, text) {
		k.t.Fatalf("no generation of %s is kept: %s", name, text)
	}
	_, err = k.store.Put(k.t.Context(), key, bytes.NewReader(over), objectstore.Always)
	k.must(err)
}

// The generation that was replaced is kept for as long as the definition says, and no
// longer: whoever comes by then drops it with its dependents, and nobody goes back to it.
func TestPreviousGenerationIsKeptForATime(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	names := []string{"items", "orders", "lines"}
	k.must(k.publish(t.Context(), "shop:orders", 100))
	k.archiveAll(100)
	contents := map[string]string{}
	for _, name := range names {
		k.defs.put(name, k.defs.texts[name]+"retention: {keep: 90m}\n")
		k.build(rebuild.Spec{Projection: name})
		k.build(rebuild.Spec{Projection: name})
		contents[name] = k.contents(name)
	}
	kept := func(name string) []projection.Previous {
		t.Helper()
		doc, err := k.svc.Documents().Get(t.Context(), name)
		k.must(err)
		return doc.Previous
	}
	there := func(name string) string {
		return k.query("SELECT count() FROM system.tables WHERE name LIKE '%s%%\\\\_\\\\_g1'", name)
	}
	for _, name := range names {
		k.must(k.svc.Sweep(t.Context(), name))
		previous := kept(name)
		if len(previous) != 1 || previous[0].DropAfter.Sub(previous[0].RetiredAt).Round(time.Second) != 90*time.Minute {
			t.Fatalf("the previous generations of %s are %+v", name, previous)
		}
		if want := map[string]string{"lines": "5"}[name]; there(name) != want && (want != "" || there(name) != "1") {
			t.Errorf("%s has %s tables of its previous generation", name, there(name))
		}
		k.passed(name)
	}

	k.must(k.svc.Sweep(t.Context(), "items"))
	k.build(rebuild.Spec{Projection: "orders"}) // which keeps one more, and drops the other
	stop := k.project("lines")
	eventually(t, 20*time.Second, func() bool { return len(kept("lines")) == 0 && there("lines") == "0" }, func() string {
		return "a projector does not drop the previous generation: " + k.tables()
	})
	stop()
	for _, name := range names {
		previous := kept(name)
		if name == "orders" && len(previous) == 1 && previous[0].Generation.Generation == 2 {
			previous = nil
		}
		if len(previous) != 0 || there(name) != "0" || k.contents(name) != contents[name] {
			t.Errorf("of %s %+v are kept, and there are %s", name, previous, k.tables())
		}
		live := k.live(name)
		_, err := k.svc.RollbackTo(t.Context(), name, rebuild.RollbackOptions{By: "ann", To: 1})
		if !errors.Is(err, rebuild.ErrInvalid) || !strings.Contains(err.Error(), " is kept") && !strings.Contains(err.Error(), "generation 1 of "+name+" is not kept") || remedy.Of(err) == "" || k.live(name) != live {
			t.Errorf("a rollback to a generation of %s that is gone: %v (%s)", name, err, remedy.Of(err))
		}
	}
	if _, err := k.svc.Rollback(t.Context(), "items", "ann"); !errors.Is(err, rebuild.ErrInvalid) || !strings.Contains(err.Error(), "no previous generation of items is kept") {
		t.Errorf("a rollback where nothing is kept: %v", err)
	}
}
