package rebuild_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reservoirhq/reservoir/rebuild"
)

const wordsYAML = `
name: words
kind: sql
source: {streams: ["shop:*"]}
table:
  engine: MergeTree
  order_by: [word]
  columns: {word: String}
select: SELECT event_id AS word FROM events
dependents:
  - name: words_numbers
    engine: MergeTree
    order_by: [n]
    columns: {n: UInt64}
    select: SELECT toUInt64(substring(word, 2)) AS n FROM {table}
`

// A dependent whose SELECT fails on a row stops the feeding of its projection, and that is
// said: in the log, by metrics, and in the projection's document, until a definition that
// bears the row is live.
func TestDependentThatFailsIsSaid(t *testing.T) {
	k := newKitchen(t, false)
	k.defs.put("words", wordsYAML)
	k.good(1)
	k.archiveAll(10)
	k.build(rebuild.Spec{Projection: "words"})
	var said lockedBuffer
	k.opts.Logger = slog.New(slog.NewTextHandler(&said, nil))
	var err error
	k.svc, err = rebuild.New(k.opts)
	k.must(err)
	reg := prometheus.NewPedanticRegistry()
	stop := k.projectWith(reg, "words")
	defer stop()
	waiting := func() string {
		doc, err := k.svc.Documents().Get(t.Context(), "words")
		k.must(err)
		if doc.Waiting == nil {
			return ""
		}
		return doc.Waiting.Reason
	}
	metrics := func(waits float64) bool {
		value, ok := k.measured(reg, "waiting")["words"]
		return ok && value == waits
	}
	k.must(k.raw.Do(t.Context(), "XADD", "shop:orders", "*", "event_id", "xyz", "type", "OrderPaid").Err())
	eventually(t, 30*time.Second, func() bool { return strings.Contains(waiting(), "dependent table words_numbers") && metrics(1) }, func() string {
		return "the document says " + waiting() + ", the log " + said.String()
	})
	if !strings.Contains(said.String(), "level=ERROR") || !strings.Contains(said.String(), "dependent table words_numbers") {
		t.Errorf("the log says only %s", said.String())
	}
	k.defs.put("words", strings.Replace(wordsYAML, "toUInt64(substring", "toUInt64OrZero(substring", 1))
	k.build(rebuild.Spec{Projection: "words"})
	k.good(3)
	eventually(t, 30*time.Second, func() bool {
		return k.query("SELECT count() FROM words_numbers") == "3" && waiting() == "" && metrics(0)
	}, func() string {
		return "the document says " + waiting() + ", the log " + said.String()
	})
}
