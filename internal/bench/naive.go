package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/klauspost/compress/zstd"
	pq "github.com/parquet-go/parquet-go"
	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/internal/stack"
)

// naiveRow is an event as a struct.
type naiveRow struct {
	ID               string `parquet:"id"`
	EventID          string `parquet:"event_id,zstd"`
	EventType        string `parquet:"event_type,zstd"`
	Tenant           string `parquet:"tenant,zstd"`
	AggregateType    string `parquet:"aggregate_type,zstd"`
	AggregateID      string `parquet:"aggregate_id,zstd"`
	AggregateVersion int64  `parquet:"aggregate_version,zstd"`
	OccurredAt       int64  `parquet:"occurred_at,timestamp(microsecond),zstd"`
	CorrelationID    string `parquet:"correlation_id,zstd"`
	CausationID      string `parquet:"causation_id,zstd"`
	SchemaVersion    string `parquet:"schema_version,zstd"`
	Payload          string `parquet:"payload,zstd"`
}

// naiveArchive is the archiver one writes first, the baseline: the client's
// own types, encoding/json, zstd and parquet-go as they come, one thing after
// the other, whole objects in memory. It loses the order of fields and repeated
// names, notices no loss, and a crash leaves it with neither a cursor nor a way
// to tell what is whole. It stops after most entries.
func (s *servers) naiveArchive(ctx context.Context, stream, prefix string, most int) (n int, err error) {
	client := redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
	defer func() { err = errors.Join(err, client.Close()) }()
	var lines, table bytes.Buffer
	compressor, err := zstd.NewWriter(&lines)
	if err != nil {
		return 0, err
	}
	encoder := json.NewEncoder(compressor)
	rows := pq.NewGenericWriter[naiveRow](&table)
	for from := "-"; n < most; {
		messages, err := client.XRangeN(ctx, stream, from, "+", 1000).Result()
		if err != nil {
			return n, err
		}
		if len(messages) == 0 {
			break
		}
		for _, m := range messages {
			if err := encoder.Encode(m); err != nil {
				return n, err
			}
			row, err := newNaiveRow(m)
			if err != nil {
				return n, err
			}
			if _, err := rows.Write([]naiveRow{row}); err != nil {
				return n, err
			}
		}
		n += len(messages)
		from = "(" + messages[len(messages)-1].ID
	}
	if err := errors.Join(compressor.Close(), rows.Close()); err != nil {
		return n, err
	}
	uploads := s3.New(s3.Options{
		BaseEndpoint: aws.String(s.s3.Endpoint()), UsePathStyle: true, Region: stack.S3Region,
		Credentials: credentials.NewStaticCredentialsProvider(stack.S3AccessKey, stack.S3SecretKey, ""),
	})
	for name, body := range map[string]*bytes.Buffer{"events.jsonl.zst": &lines, "events.parquet": &table} {
		_, err := uploads.PutObject(ctx, &s3.PutObjectInput{
			Bucket: aws.String(s.s3.Bucket()), Key: aws.String(prefix + "/" + name), Body: bytes.NewReader(body.Bytes()),
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func newNaiveRow(m redis.XMessage) (naiveRow, error) {
	text := func(name string) string {
		s, _ := m.Values[name].(string)
		return s
	}
	version, err := strconv.ParseInt(text("aggregate_version"), 10, 64)
	if err != nil {
		return naiveRow{}, fmt.Errorf("entry %s: %w", m.ID, err)
	}
	at, err := time.Parse(time.RFC3339Nano, text("occurred_at"))
	if err != nil {
		return naiveRow{}, fmt.Errorf("entry %s: %w", m.ID, err)
	}
	return naiveRow{
		ID: m.ID, EventID: text("event_id"), EventType: text("event_type"), Tenant: text("tenant"),
		AggregateType: text("aggregate_type"), AggregateID: text("aggregate_id"), AggregateVersion: version,
		OccurredAt: at.UnixMicro(), CorrelationID: text("correlation_id"), CausationID: text("causation_id"),
		SchemaVersion: text("schema_version"), Payload: text("payload"),
	}, nil
}
