package chstore_test

import (
	"testing"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/objectstore"
)

// archived writes events as one Parquet segment of a stream and returns it as a source.
func archived(t testing.TB, store objectstore.Store, stream string, batch *event.Batch) chstore.Source {
	t.Helper()
	ctx := t.Context()
	arch, err := archive.Open(ctx, store, archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := arch.Log(ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	for from := 0; from < batch.Len(); { // a segment does not cross an hour
		to := from
		for to < batch.Len() && archive.Hour(batch.ID(to)) == archive.Hour(batch.ID(from)) {
			to++
		}
		w := arch.NewSegmentWriter(ctx, stream, 1, []archive.Format{archive.Parquet}, batch.ID(from))
		defer w.Abort()
		if err := w.Write(batch, from, to); err != nil {
			t.Fatal(err)
		}
		segments, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := log.Append(ctx, archive.Commit{Kind: archive.KindAppend, Head: batch.ID(to - 1), Adds: segments}); err != nil {
			t.Fatal(err)
		}
		from = to
	}
	plan, err := arch.Plan(ctx, archive.PlanSpec{Stream: stream})
	if err != nil {
		t.Fatal(err)
	}
	source := chstore.Source{Stream: stream, Incarnation: 1}
	for segment, err := range plan.Segments(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		source.Keys = append(source.Keys, segment.Path)
	}
	return source
}

// onS3 starts an S3 server and returns it as an archive's store and as ClickHouse sees it.
func onS3(t testing.TB) (objectstore.Store, *chstore.S3) {
	t.Helper()
	server := stacktest.S3(t, stack.S3Options{})
	store, err := objectstore.NewS3(t.Context(), objectstore.S3Options{
		Endpoint: server.Endpoint(), Bucket: server.Bucket(), PathStyle: true, Region: "us-east-1",
		AccessKey: stack.S3AccessKey, SecretKey: stack.S3SecretKey,
	})
	if err != nil {
		t.Fatal(err)
	}
	return store, &chstore.S3{Endpoint: server.Endpoint(), Bucket: server.Bucket(), AccessKey: stack.S3AccessKey, SecretKey: stack.S3SecretKey}
}
