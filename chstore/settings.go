package chstore

import (
	"maps"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Defaults differ between versions and profiles, and much of what is promised here
// hangs on them, so every setting that matters is sent with every statement. Those
// that a server does not know are left out: see Server.Unknown.

// always goes with every statement.
func always() clickhouse.Settings {
	return clickhouse.Settings{
		"use_hive_partitioning":                       0, // date= and hour= in paths are no columns of events
		"input_format_null_as_default":                1, // an absent attribute is ''
		"input_format_parquet_allow_missing_columns":  0,
		"input_format_parquet_filter_push_down":       1,
		"input_format_parquet_bloom_filter_push_down": 1,
		"s3_retry_attempts":                           8, // some 6 s; the default is minutes
		"s3_connect_timeout_ms":                       5_000,
		"s3_request_timeout_ms":                       30_000,
		"schema_inference_use_cache_for_s3":           0,
		"join_use_nulls":                              0,
		"transform_null_in":                           0,
		"enable_global_with_statement":                1,
		"prefer_column_name_to_alias":                 0,
		"union_default_mode":                          "DISTINCT", // what most write UNION for; it is never guessed
		"date_time_overflow_behavior":                 "ignore",
		"compile_aggregate_expressions":               0, // what is compiled takes times before 1970 for later than all others
		"session_timezone":                            "UTC",
		"output_format_json_quote_64bit_integers":     0,
		"output_format_json_quote_denormals":          1,
		"output_format_json_quote_decimals":           0,
		"enable_named_columns_in_function_tuple":      0,
		"date_time_output_format":                     "iso",
		"parallel_distributed_insert_select":          0, // the connected server writes
		"skip_unavailable_shards":                     0, // or files would be left out
		"enable_parallel_replicas":                    0,
		"async_insert":                                0,
		"distributed_ddl_output_mode":                 "throw",
		"distributed_ddl_task_timeout":                180,
	}
}

// oneBlock makes of an INSERT SELECT one block, so that it is there or not; with a
// table that is partitioned: per partition.
func oneBlock() clickhouse.Settings {
	return clickhouse.Settings{
		"max_threads":                                        1,
		"max_insert_threads":                                 1,
		"min_insert_block_size_rows":                         100_000_000,
		"min_insert_block_size_bytes":                        0,
		"min_insert_block_size_rows_for_materialized_views":  100_000_000,
		"min_insert_block_size_bytes_for_materialized_views": 0,
		"max_insert_block_size":                              100_000_000,
		"max_partitions_per_insert_block":                    1000,
		"optimize_on_insert":                                 1,
		"parallel_view_processing":                           0,
		"insert_deduplicate":                                 1,
		"deduplicate_insert":                                 "enable",
		"deduplicate_insert_select":                          "enable_even_for_bad_queries",
		"deduplicate_blocks_in_dependent_materialized_views": 1,
		"insert_deduplication_token":                         "",
		"insert_quorum":                                      "0",
		"s3_truncate_on_insert":                              0,
	}
}

// manyBlocks is for an INSERT SELECT that is proved as a whole.
func manyBlocks() clickhouse.Settings {
	return clickhouse.Settings{
		"max_partitions_per_insert_block": 1000,
		"optimize_on_insert":              1,
		"insert_deduplicate":              0,
		"deduplicate_insert":              "disable",
		"deduplicate_insert_select":       "disable",
		"insert_deduplication_token":      "",
	}
}

// deletion makes a lightweight delete that is done when it returns, on all replicas.
func deletion() clickhouse.Settings {
	return clickhouse.Settings{
		"lightweight_deletes_sync":  2,
		"mutations_sync":            2,
		"enable_lightweight_delete": 1,
		"lightweight_delete_mode":   "alter_update",
	}
}

// sending is for a statement that rows are sent along with. A client that is stopped in
// the middle of that is waited for only so long, in seconds since its last byte, and not
// for minutes: who has taken its place waits for the end of its statements (see Kill).
func sending() clickhouse.Settings {
	return clickhouse.Settings{"receive_timeout": 15}
}

// spilling keeps a big aggregation within memory.
func spilling(bytes uint64) clickhouse.Settings {
	return clickhouse.Settings{
		"max_bytes_before_external_group_by":       bytes,
		"max_bytes_ratio_before_external_group_by": 0,
		"max_bytes_before_external_sort":           bytes,
		"max_bytes_ratio_before_external_sort":     0,
	}
}

func allSettings() clickhouse.Settings {
	all := always()
	for _, more := range []clickhouse.Settings{oneBlock(), manyBlocks(), deletion(), sending(), spilling(0)} {
		maps.Copy(all, more)
	}
	return all
}

// settings merges sets, the later over the earlier, and leaves out what the server
// does not know; what the Config says comes last.
func (s *Store) settings(sets ...clickhouse.Settings) clickhouse.Settings {
	merged := always()
	for _, set := range sets {
		maps.Copy(merged, set)
	}
	maps.DeleteFunc(merged, func(name string, _ any) bool { _, ok := s.known[name]; return !ok })
	for name, value := range s.config.Settings {
		merged[name] = value
	}
	return merged
}
