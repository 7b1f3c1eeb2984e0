package interop_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/internal/stack"
)

type clickHouse struct {
	engine *stack.ClickHouse
	table  string // the table function, of the glob
}

func (c clickHouse) from(glob, where string) string {
	return fmt.Sprintf("FROM "+c.table+" WHERE %s", glob, where)
}

func (c clickHouse) rows(ctx context.Context, glob, where string) ([]row, error) {
	out, err := c.engine.Query(ctx, `
		SELECT toString(id_ms) AS id_ms, toString(id_seq) AS id_seq, event_id, event_type, tenant, aggregate_type, aggregate_id,
			toString(aggregate_version) AS aggregate_version, toString(toUnixTimestamp64Micro(occurred_at)) AS occurred_at,
			correlation_id, causation_id, schema_version, payload, layout, arrayMap(x -> base64Encode(x), rest) AS rest,
			toString(date) AS date, leftPad(toString(hour), 2, '0') AS hour
		`+c.from(glob, where)+` ORDER BY id_ms, id_seq FORMAT JSONEachRow
		SETTINGS prefer_column_name_to_alias = 1, use_hive_partitioning = 1`)
	if err != nil {
		return nil, err
	}
	var rows []row
	for decoder := json.NewDecoder(strings.NewReader(out)); ; {
		var r row
		if err := decoder.Decode(&r); errors.Is(err, io.EOF) {
			return rows, nil
		} else if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
}

func (c clickHouse) count(ctx context.Context, glob string) (int, error) {
	out, err := c.engine.Query(ctx, "SELECT count() "+c.from(glob, "true"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(out))
}

func (c clickHouse) digest(ctx context.Context, glob string) (string, error) {
	out, err := c.engine.Query(ctx, `
		SELECT lower(hex(MD5(arrayStringConcat(arrayMap(row -> row.3, arraySort(groupArray((id_ms, id_seq, lower(hex(MD5(concat(
			id_ms, '-', id_seq, '|', ifNull(event_type, ''), '|', ifNull(event_id, ''), '|', ifNull(payload, ''))))))))))))) `+c.from(glob, "true"))
	return strings.TrimSpace(out), err
}

// candidates tells by the rows that were read, where nothing but row groups'
// statistics and bloom filters may leave rows out.
func (c clickHouse) candidates(t *testing.T, file, eventID string) (rows, all int) {
	t.Helper()
	read := func(where string) int {
		out, err := c.engine.Query(t.Context(), "SELECT sum(length(payload)) "+c.from(file, where)+` FORMAT JSON
			SETTINGS input_format_parquet_bloom_filter_push_down = 1, input_format_parquet_page_filter_push_down = 0,
				optimize_move_to_prewhere = 0, query_plan_optimize_prewhere = 0`)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Statistics struct {
				Rows int `json:"rows_read"`
			} `json:"statistics"`
		}
		if err := json.Unmarshal([]byte(out), &answer); err != nil {
			t.Fatal(err)
		}
		return answer.Statistics.Rows
	}
	return read(fmt.Sprintf("event_id = '%s'", eventID)), read("true")
}
