-- +goose NO TRANSACTION
-- +goose Up
CREATE DATABASE IF NOT EXISTS {{.Archive}}{{.OnCluster}};

-- The Parquet files that belong to the archive. What else lies beside them (files that
-- compaction has replaced, or that a killed writer left) is in no view.
CREATE TABLE IF NOT EXISTS {{.Database}}.archive_files{{.OnCluster}}
(
    stream      String,
    incarnation UInt32 COMMENT 'which life of the key of the stream',
    file        String COMMENT 'last part of the key',
    directory   String COMMENT 'the key up to it',
    first_ms    UInt64 COMMENT 'milliseconds of the first ID',
    last_ms     UInt64 COMMENT 'milliseconds of the last ID',
    events      UInt64,
    bytes       UInt64,
    raw_bytes   UInt64 COMMENT 'of all names and values',
    removed     UInt8 COMMENT '1: the archive does not name it any more',
    revision    UInt64 COMMENT 'the highest one counts'
)
ENGINE = {{.Replacing "revision"}}
ORDER BY (stream, incarnation, file)
COMMENT 'Files of the archive, copied from its commit logs. Kept by Reservoir.';

-- Of which streams there are views, and until when their lists of files hold.
CREATE TABLE IF NOT EXISTS {{.Database}}.archive_streams{{.OnCluster}}
(
    stream      String,
    view        String COMMENT 'name of the view; empty: there is none, for want of Parquet files',
    files       UInt64,
    events      UInt64,
    left_out    UInt64 COMMENT 'archived events that the view does not have: those in JSONL only',
    synced_at   DateTime64(3, 'UTC'),
    valid_until DateTime64(3, 'UTC') COMMENT 'from then on, files of the list may be gone',
    revision    UInt64 COMMENT 'the highest one counts'
)
ENGINE = {{.Replacing "revision"}}
ORDER BY stream
COMMENT 'Streams of the archive. Kept by Reservoir.';

-- +goose Down
DROP TABLE IF EXISTS {{.Database}}.archive_streams{{.OnCluster}} SYNC;
DROP TABLE IF EXISTS {{.Database}}.archive_files{{.OnCluster}} SYNC;
