package interop_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

type duckDB struct{}

func (duckDB) rows(ctx context.Context, glob, where string) ([]row, error) {
	var rows []row
	err := stack.DuckDB(ctx, fmt.Sprintf(`SET TimeZone = 'UTC';
		SELECT CAST(id_ms AS VARCHAR) AS id_ms, CAST(id_seq AS VARCHAR) AS id_seq, event_id, event_type, tenant, aggregate_type, aggregate_id,
			CAST(aggregate_version AS VARCHAR) AS aggregate_version, CAST(epoch_us(occurred_at) AS VARCHAR) AS occurred_at,
			correlation_id, causation_id, schema_version, payload, layout, list_transform(rest, lambda x: base64(x)) AS rest,
			CAST(date AS VARCHAR) AS date, lpad(CAST(hour AS VARCHAR), 2, '0') AS hour
		FROM (SELECT * FROM read_parquet('%s', hive_partitioning = true) WHERE %s ORDER BY id_ms, id_seq)`, glob, where), &rows)
	return rows, err
}

func (duckDB) count(ctx context.Context, glob string) (int, error) {
	var counted []struct{ N int }
	err := stack.DuckDB(ctx, fmt.Sprintf(`SELECT CAST(count(*) AS INTEGER) AS n FROM read_parquet('%s', hive_partitioning = true)`, glob), &counted)
	if err != nil {
		return 0, err
	}
	return counted[0].N, nil
}

func (duckDB) digest(ctx context.Context, glob string) (string, error) {
	var digests []struct{ Digest string }
	err := stack.DuckDB(ctx, fmt.Sprintf(`
		SELECT md5(string_agg(md5(id_ms || '-' || id_seq || '|' || coalesce(event_type, '') || '|' || coalesce(event_id, '') || '|' || coalesce(payload, '')),
			'' ORDER BY id_ms, id_seq)) AS digest
		FROM read_parquet('%s')`, glob), &digests)
	if err != nil {
		return "", err
	}
	return digests[0].Digest, nil
}

func (duckDB) candidates(t *testing.T, file, eventID string) (rows, all int) {
	t.Helper()
	var counted []struct{ Rows, Total int }
	stacktest.DuckDB(t, fmt.Sprintf(`
		SELECT CAST(coalesce(sum(row_group_num_rows) FILTER (NOT bloom_filter_excludes), 0) AS INTEGER) AS rows,
			CAST(sum(row_group_num_rows) AS INTEGER) AS total
		FROM parquet_bloom_probe('%[1]s', 'event_id', '%[2]s') JOIN parquet_metadata('%[1]s') USING (file_name, row_group_id)
		WHERE path_in_schema = 'event_id'`, file, eventID), &counted)
	return counted[0].Rows, counted[0].Total
}
