package foldstore_test

import (
	"context"
	"io"
	"strings"
	"testing"
)

// contextOf gives the context of a test to what runs for a property of it.
type contextOf struct{ t *testing.T }

func (c contextOf) Context() context.Context { return c.t.Context() }

func definition() io.Reader {
	return strings.NewReader(`
name: story
kind: fold
source: {streams: [s]}
table:
  engine: ReplacingMergeTree
  order_by: key
  columns: {key: String, versions: String}
`)
}
