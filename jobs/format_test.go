package jobs_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
)

// TestFormatV1: documents of this version must stay readable, and are written
// as they were.
func TestFormatV1(t *testing.T) {
	sample, err := os.ReadFile("testdata/v1/job.json")
	if err != nil {
		t.Fatal(err)
	}
	objects := newMemory()
	id := "01KAJ9CM00Q1Y7Z8T3V5W9XABC"
	if _, err := objects.Put(t.Context(), "jobs/active/"+id+".json", bytes.NewReader(sample), objectstore.Always); err != nil {
		t.Fatal(err)
	}
	j := get(t, jobs.NewStore(objects, jobs.StoreOptions{}), id)
	if text := asJSON(t, j); text != strings.TrimSpace(string(sample)) {
		t.Errorf("read back as\n%s\nwant\n%s", text, sample)
	}
	if at := jobs.Created(id).Format("2006-01"); at != "2025-11" {
		t.Errorf("created %s", at)
	}
}
