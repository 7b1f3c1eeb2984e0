package objectstore_test

import (
	"crypto/rand"
	"testing"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/objectstore/storetest"
)

func TestLocal(t *testing.T) {
	storetest.Run(t, func(t *testing.T) objectstore.Store { return openLocal(t, t.TempDir()) })
}

func TestS3(t *testing.T) {
	server := stacktest.S3(t, stack.S3Options{})
	storetest.Run(t, func(t *testing.T) objectstore.Store { return objectstore.WithPrefix(openS3(t, server), rand.Text()) })
}

func openLocal(t testing.TB, dir string) *objectstore.Local {
	t.Helper()
	store, err := objectstore.NewLocal(dir, objectstore.LocalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func s3Options(server *stack.S3) objectstore.S3Options {
	return objectstore.S3Options{Bucket: server.Bucket(), Endpoint: server.Endpoint(), AccessKey: stack.S3AccessKey, SecretKey: stack.S3SecretKey}
}

func openS3(t testing.TB, server *stack.S3) *objectstore.S3 {
	t.Helper()
	store, err := objectstore.NewS3(t.Context(), s3Options(server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}
