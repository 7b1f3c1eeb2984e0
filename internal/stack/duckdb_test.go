package stack_test

import (
	"reflect"
	"testing"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

func TestDuckDB(t *testing.T) {
	type row struct {
		ID    string
		Name  *string
		Bytes map[string]string
		List  []string
	}
	var got []row
	stacktest.DuckDB(t, `
		CREATE TABLE t AS SELECT 18446744073709551615::UBIGINT AS id, NULL::VARCHAR AS name;
		SELECT id, name, '\x00\xFF'::BLOB AS bytes, ['a', ''] AS list FROM t`, &got)
	want := []row{{ID: "18446744073709551615", Bytes: map[string]string{"$base64": "AP8="}, List: []string{"a", ""}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("rows = %+v, want %+v", got, want)
	}
	if err := stack.DuckDB(t.Context(), "SELECT nonsense", &got); !contains(err, "nonsense") {
		t.Errorf("a wrong query: %v, want DuckDB's own words", err)
	}
}
