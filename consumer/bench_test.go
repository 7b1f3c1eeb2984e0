package consumer_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/consumer"
)

// BenchmarkConsumer handles events that lie in the stream: each is one upsert in
// PostgreSQL and MariaDB, and two HINCRBY in Redis.
func BenchmarkConsumer(b *testing.B) {
	for _, kind := range []string{"postgresql", "mysql", "redis"} {
		bank := newBank(b, kind)
		for _, c := range []struct {
			batch int
			dedup time.Duration
		}{{1, 0}, {100, 0}, {100, time.Hour}} {
			b.Run(fmt.Sprintf("%s/batch=%d/deduplicate=%v", kind, c.batch, c.dedup > 0), func(b *testing.B) {
				name := fmt.Sprintf("%d-%v-%d", c.batch, c.dedup, b.N)
				for at := 0; at < b.N; at += 1000 {
					_, err := bank.admin.Pipelined(b.Context(), func(pipe redis.Pipeliner) error {
						for n := at; n < min(at+1000, b.N); n++ {
							pipe.XAdd(b.Context(), &redis.XAddArgs{Stream: name, Values: []any{"type", "Deposit", "payload", `{"account":"a","amount":1}`}})
						}
						return nil
					})
					if err != nil {
						b.Fatal(err)
					}
				}
				done := make(chan struct{})
				n := 0
				s := settings{name: name, streams: []string{name}, batch: c.batch, dedup: c.dedup, lease: 10 * time.Second,
					after: func(context.Context, *consumer.Record) error {
						if n++; n == b.N {
							close(done)
						}
						return nil
					}}
				b.ResetTimer()
				stop := bank.start(b, s)
				<-done
				stop()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}
