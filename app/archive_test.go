package app

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/archiver"
)

// TestListFlags: the flag of a list may be given several times; the last one
// does not silently replace the others.
func TestListFlags(t *testing.T) {
	s := newSite(t)
	s.add(t, "one", 1, 3)
	s.add(t, "two", 1, 4)
	s.add(t, "three", 1, 5)
	status, stdout, stderr := command(t, "archive", "--once", "--json", "--stream", "one", "--stream", "two", "--format", "jsonl", "--format=parquet")
	if status != exitOK {
		t.Fatal(stderr)
	}
	var got struct{ Streams, Events int } // the names are also those of scripts
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if got.Streams != 2 || got.Events != 7 || !strings.Contains(stdout, `"events": 7`) {
		t.Errorf("archived %+v, want 7 events of 2 streams\n%s", got, stdout)
	}
}

// TestLeftGoesToStderr: what is wrong is an error with its remedy, whether the
// summary is text or JSON.
func TestLeftGoesToStderr(t *testing.T) {
	s := newSite(t)
	s.do(t, "SET", "text", "x")
	for _, args := range [][]string{{"archive", "--once", "--stream", "text"}, {"archive", "--once", "--json", "--stream", "text"}} {
		status, stdout, stderr := command(t, args...)
		want := "error: LEFT: text: "
		if status != exitProblems || !strings.HasPrefix(stderr, want) || !strings.Contains(stderr, "\n  remedy: name only streams") {
			t.Errorf("%q: status %d, want %d and %q:\n%s", args, status, exitProblems, want, stderr)
		}
		if strings.Contains(stdout, "LEFT") {
			t.Errorf("%q: also on stdout: %s", args, stdout)
		}
	}
}

func TestLostGoesToStderr(t *testing.T) {
	s := newSite(t)
	s.add(t, "gap", 1, 5)
	s.do(t, "XTRIM", "gap", "MAXLEN", "2")
	status, stdout, stderr := command(t, "archive", "--once", "--json")
	var got archiver.Summary
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if want := "error: LOST: 3 entries"; status != exitProblems || got.Lost != 3 || !strings.Contains(stderr, want) || !strings.Contains(stderr, "  remedy: ") {
		t.Errorf("status %d, %d lost, want %d, 3 and %q:\n%s", status, got.Lost, exitProblems, want, stderr)
	}
}
