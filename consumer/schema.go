package consumer

// PostgreSQLSchema makes the tables of a SQLStore in PostgreSQL, unless they are
// there: for whoever keeps the schema with a tool of their own. SQLStore.Migrate
// runs it.
const PostgreSQLSchema = `
CREATE TABLE IF NOT EXISTS reservoir_consumer_checkpoints (
  consumer        text        NOT NULL,
  stream          text        NOT NULL,
  position        text        NOT NULL DEFAULT '',  -- ID of the last event dealt with
  added           bigint      NOT NULL DEFAULT -1,  -- entries accounted for; -1: not known
  epoch           bigint      NOT NULL DEFAULT 0,   -- counts the workers
  owner           text        NOT NULL DEFAULT '',
  leased_until    timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00Z',
  failed_id       text        NOT NULL DEFAULT '',  -- the event that is tried again
  failed_attempts integer     NOT NULL DEFAULT 0,
  failed_error    text        NOT NULL DEFAULT '',
  updated_at      timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00Z',
  PRIMARY KEY (consumer, stream)
);
CREATE TABLE IF NOT EXISTS reservoir_consumer_members (
  consumer   text        NOT NULL,
  member     text        NOT NULL,
  seen_until timestamptz NOT NULL,
  PRIMARY KEY (consumer, member)
);
CREATE TABLE IF NOT EXISTS reservoir_consumer_events (
  consumer   text        NOT NULL,
  event_key  text        NOT NULL,
  handled_at timestamptz NOT NULL,
  PRIMARY KEY (consumer, event_key)
);
CREATE INDEX IF NOT EXISTS reservoir_consumer_events_age ON reservoir_consumer_events (consumer, handled_at);
CREATE TABLE IF NOT EXISTS reservoir_consumer_dead_letters (
  consumer   text        NOT NULL,
  stream     text        NOT NULL,
  entry_id   text        NOT NULL,  -- 20 digits, a dash, 20 digits: sorts as IDs do
  event_type text        NOT NULL,
  event_key  text        NOT NULL,
  attempts   integer     NOT NULL,
  error      text        NOT NULL,
  fields     text        NOT NULL,  -- JSON: [["name","value"], …]
  failed_at  timestamptz NOT NULL,
  PRIMARY KEY (consumer, stream, entry_id)
);
`

// MySQLSchema is PostgreSQLSchema for MySQL 8.0 and MariaDB 10.6 or later. Names
// and keys are binary, because they are compared byte by byte; times are UTC.
const MySQLSchema = `
CREATE TABLE IF NOT EXISTS reservoir_consumer_checkpoints (
  consumer        VARBINARY(255) NOT NULL,
  stream          VARBINARY(255) NOT NULL,
  position        VARCHAR(41)    NOT NULL DEFAULT '' COMMENT 'ID of the last event dealt with',
  added           BIGINT         NOT NULL DEFAULT -1 COMMENT 'entries accounted for; -1: not known',
  epoch           BIGINT         NOT NULL DEFAULT 0  COMMENT 'counts the workers',
  owner           VARBINARY(255) NOT NULL DEFAULT '',
  leased_until    DATETIME(6)    NOT NULL DEFAULT '1970-01-01 00:00:00',
  failed_id       VARCHAR(41)    NOT NULL DEFAULT '' COMMENT 'the event that is tried again',
  failed_attempts INT            NOT NULL DEFAULT 0,
  failed_error    MEDIUMBLOB     NOT NULL DEFAULT (''),
  updated_at      DATETIME(6)    NOT NULL DEFAULT '1970-01-01 00:00:00',
  PRIMARY KEY (consumer, stream)
) ENGINE=InnoDB;
CREATE TABLE IF NOT EXISTS reservoir_consumer_members (
  consumer   VARBINARY(255) NOT NULL,
  member     VARBINARY(255) NOT NULL,
  seen_until DATETIME(6)    NOT NULL,
  PRIMARY KEY (consumer, member)
) ENGINE=InnoDB;
CREATE TABLE IF NOT EXISTS reservoir_consumer_events (
  consumer   VARBINARY(255) NOT NULL,
  event_key  VARBINARY(255) NOT NULL,
  handled_at DATETIME(6)    NOT NULL,
  PRIMARY KEY (consumer, event_key),
  KEY reservoir_consumer_events_age (consumer, handled_at)
) ENGINE=InnoDB;
CREATE TABLE IF NOT EXISTS reservoir_consumer_dead_letters (
  consumer   VARBINARY(255) NOT NULL,
  stream     VARBINARY(255) NOT NULL,
  entry_id   VARCHAR(41)    NOT NULL COMMENT '20 digits, a dash, 20 digits: sorts as IDs do',
  event_type VARBINARY(255) NOT NULL,
  event_key  VARBINARY(255) NOT NULL,
  attempts   INT            NOT NULL,
  error      MEDIUMBLOB     NOT NULL,
  fields     LONGBLOB       NOT NULL COMMENT 'JSON: [["name","value"], …]',
  failed_at  DATETIME(6)    NOT NULL,
  PRIMARY KEY (consumer, stream, entry_id)
) ENGINE=InnoDB;
`
