package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/reservoirhq/reservoir/objectstore"
)

// scratch holds the doctor's own objects; nothing else reads there.
const scratch = "doctor/"

func (e *examination) store(ctx context.Context) {
	if e.Config.Store.URL.IsZero() {
		e.fail("url", "set store.url to s3://bucket/prefix or file:///directory", "store.url is not set")
		return
	}
	store, err := e.OpenStore(ctx)
	if e.failed("open", err, "correct the store.* keys") {
		return
	}
	if e.failed("list", list(ctx, store, scratch), "allow s3:ListBucket on the bucket") {
		return // nothing else can be expected to work
	}
	e.ok("list", "%s answers", e.Config.Store.URL)
	if !e.objects(ctx, store) {
		return
	}
	err = e.Probe(ctx, store)
	if !e.failed("conditional writes", err, "use a store that honours If-None-Match and If-Match on PutObject: the archive's guarantees rest on them") {
		e.ok("conditional writes", "honoured, also by concurrent writers")
	}
	if !e.failed("archive", e.OpenArchive(ctx, store), "") {
		e.ok("archive", "readable by this version")
	}
}

// objects writes, reads and deletes an object of the doctor's own.
func (e *examination) objects(ctx context.Context, store objectstore.Store) bool {
	key := scratch + rand.Text()
	want := []byte("written by reservoir doctor; it can be deleted\n")
	began := time.Now()
	if _, err := store.Put(ctx, key, bytes.NewReader(want), objectstore.IfAbsent); e.failed("write", err, "allow s3:PutObject below the prefix") {
		return false
	}
	took := time.Since(began)
	e.ok("write", "%d bytes in %s", len(want), took.Round(100*time.Microsecond))

	info, err := readBack(ctx, store, key, want)
	if !e.failed("read", err, "allow s3:GetObject below the prefix") {
		e.ok("read", "gives back what was written")
		if !info.ModTime.IsZero() {
			// The store stamped it between began and began+took, in whole seconds.
			e.clock("the store", info.ModTime.Sub(began.Add(took/2)), took/2+time.Second)
		}
	}
	if e.failed("delete", store.Delete(ctx, key), "allow s3:DeleteObject below the prefix: garbage collection and uploads that failed need it") {
		return true
	}
	if _, err := store.Head(ctx, key); !errors.Is(err, objectstore.ErrNotFound) {
		e.fail("delete", "check for a lock or a hold on the bucket", "an object is still there after it was deleted: %v", err)
		return true
	}
	e.ok("delete", "removes it")
	return true
}

func list(ctx context.Context, store objectstore.Reader, prefix string) error {
	for _, err := range store.List(ctx, prefix, objectstore.ListOptions{Delimited: true}) {
		return err // the first answer is enough
	}
	return nil
}

func readBack(ctx context.Context, store objectstore.Reader, key string, want []byte) (_ objectstore.Info, err error) {
	body, info, err := store.Get(ctx, key, objectstore.ByteRange{})
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	got, err := io.ReadAll(io.LimitReader(body, int64(len(want))+1))
	if err != nil {
		return info, err
	}
	if !bytes.Equal(got, want) {
		return info, fmt.Errorf("%s holds %d bytes that are not what was written", key, len(got))
	}
	return info, nil
}
