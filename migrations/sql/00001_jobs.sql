-- +goose NO TRANSACTION
-- +goose Up

-- What is known of every job, as of the last sync. Read rebuilds and replays instead.
CREATE TABLE IF NOT EXISTS {{.Database}}.job_history{{.OnCluster}}
(
    kind            LowCardinality(String) COMMENT 'rebuild or replay',
    id              String COMMENT 'ID of the job: a ULID, sorts by creation',
    name            String,
    target          String COMMENT 'what the job writes to',
    reason          String COMMENT 'why it was asked for',
    created_by      String COMMENT 'who asked',
    state           LowCardinality(String) COMMENT 'pending, running, paused, cancelling, succeeded, failed or cancelled',
    state_reason    String,
    phase           LowCardinality(String),
    position        String COMMENT 'the last thing dealt with',
    events_done     UInt64,
    events_total    UInt64 COMMENT 'upper bound; 0 when not known',
    events_selected UInt64,
    dead_letters    UInt64,
    bytes_read      UInt64,
    attempt         UInt32 COMMENT 'attempts that failed since it last got on',
    epoch           UInt64 COMMENT 'how often a worker took it',
    worker          String COMMENT 'who has it now',
    error           String COMMENT 'what went wrong last',
    spec            String COMMENT 'JSON: what was asked for; of replays without the sink',
    created_at      DateTime64(3, 'UTC'),
    started_at      Nullable(DateTime64(3, 'UTC')),
    ended_at        Nullable(DateTime64(3, 'UTC')),
    updated_at      DateTime64(3, 'UTC'),
    nonce           String COMMENT 'which revision of the document this is',
    revision        UInt64 COMMENT 'the highest one counts'
)
ENGINE = {{.Replacing "revision"}}
ORDER BY (kind, id)
COMMENT 'Every job, copied from its document; the last revision counts. Kept by Reservoir.';

-- What happened to jobs, and who did it.
CREATE TABLE IF NOT EXISTS {{.Database}}.job_events{{.OnCluster}}
(
    kind    LowCardinality(String),
    job     String COMMENT 'ID of the job',
    seq     UInt64 COMMENT 'number of the entry in the log of the job, from 0',
    time    DateTime64(3, 'UTC'),
    level   LowCardinality(String) COMMENT 'info, warn or error',
    message String,
    worker  String,
    by      String COMMENT 'who asked, where a person did'
)
ENGINE = {{.Replacing ""}}
ORDER BY (kind, job, seq)
COMMENT 'The logs of jobs; entries that come twice are one. Kept by Reservoir.';

CREATE VIEW IF NOT EXISTS {{.Database}}.rebuilds{{.OnCluster}} AS
SELECT
    id,
    replaceRegexpOne(target, '^projection:', '') AS projection,
    * EXCEPT (kind, id, target, nonce, revision),
    dateDiff('millisecond', started_at, ifNull(ended_at, updated_at)) / 1000 AS seconds
FROM {{.Database}}.job_history FINAL
WHERE kind = 'rebuild';

CREATE VIEW IF NOT EXISTS {{.Database}}.replays{{.OnCluster}} AS
SELECT
    id,
    target,
    * EXCEPT (kind, id, target, nonce, revision),
    dateDiff('millisecond', started_at, ifNull(ended_at, updated_at)) / 1000 AS seconds
FROM {{.Database}}.job_history FINAL
WHERE kind = 'replay';

CREATE VIEW IF NOT EXISTS {{.Database}}.job_log{{.OnCluster}} AS
SELECT * FROM {{.Database}}.job_events FINAL;

-- +goose Down
DROP VIEW IF EXISTS {{.Database}}.job_log{{.OnCluster}} SYNC;
DROP VIEW IF EXISTS {{.Database}}.replays{{.OnCluster}} SYNC;
DROP VIEW IF EXISTS {{.Database}}.rebuilds{{.OnCluster}} SYNC;
DROP TABLE IF EXISTS {{.Database}}.job_events{{.OnCluster}} SYNC;
DROP TABLE IF EXISTS {{.Database}}.job_history{{.OnCluster}} SYNC;
