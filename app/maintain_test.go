package app

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/archive"
)

// object gives the path of the first object below the archive whose path holds
// every part.
func (s *site) object(t *testing.T, parts ...string) string {
	t.Helper()
	found := ""
	err := filepath.WalkDir(filepath.Join(s.dir, "streams"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || found != "" {
			return err
		}
		for _, p := range parts {
			if !strings.Contains(path, p) {
				return nil
			}
		}
		found = path
		return nil
	})
	if err != nil || found == "" {
		t.Fatalf("no object %q: %v", parts, err)
	}
	return found
}

// change replaces an object's bytes.
func change(t *testing.T, path string, edit func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, edit(data), info.Mode()); err != nil {
		t.Fatal(err)
	}
}

func flipMiddle(b []byte) []byte {
	b[len(b)/2] ^= 0x10
	return b
}

// TestVerify finds every sort of damage, and nothing where there is none.
func TestVerify(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, s *site)
		want   archive.FindingKind // of a problem; empty: there is none
	}{
		{"none", func(*testing.T, *site) {}, ""},
		{"a flipped bit in JSONL", func(t *testing.T, s *site) { change(t, s.object(t, "orders", ".jsonl.zst"), flipMiddle) }, archive.FindingUnreadable},
		{"a flipped bit in Parquet", func(t *testing.T, s *site) { change(t, s.object(t, "orders", ".parquet"), flipMiddle) }, archive.FindingChecksum},
		{"a deleted segment", func(t *testing.T, s *site) {
			if err := os.Remove(s.object(t, "orders", ".parquet")); err != nil {
				t.Fatal(err)
			}
		}, archive.FindingMissing},
		{"a truncated segment", func(t *testing.T, s *site) {
			change(t, s.object(t, "orders", ".jsonl.zst"), func(b []byte) []byte { return b[:len(b)-9] })
		}, archive.FindingUnreadable},
		{"swapped segments", func(t *testing.T, s *site) {
			one, two := s.object(t, "orders", ".parquet"), s.object(t, "payments", ".parquet")
			for _, move := range [][2]string{{one, one + "~"}, {two, one}, {one + "~", two}} {
				if err := os.Rename(move[0], move[1]); err != nil {
					t.Fatal(err)
				}
			}
		}, archive.FindingChecksum},
		{"a deleted commit", func(t *testing.T, s *site) {
			if err := os.Remove(s.object(t, "orders", "log/00000000000000000001.json")); err != nil {
				t.Fatal(err)
			}
		}, archive.FindingLog},
		{"the first incarnation gone", func(t *testing.T, s *site) {
			s.do(t, "DEL", "orders")
			s.add(t, "orders", 1, 1)
			s.do(t, "XADD", "orders", "2-2", "other", "1")
			works(t, "archive", "--once")
			if err := os.RemoveAll(filepath.Join(s.dir, "streams/orders/00000001")); err != nil {
				t.Fatal(err)
			}
		}, archive.FindingLog},
		{"a commit that says otherwise", func(t *testing.T, s *site) {
			change(t, s.object(t, "orders", "log/00000000000000000002.json"), func(b []byte) []byte {
				return []byte(strings.Replace(string(b), `"count":100`, `"count":101`, 1))
			})
		}, archive.FindingLog},
		{"an unreadable commit", func(t *testing.T, s *site) {
			change(t, s.object(t, "orders", "log/00000000000000000002.json"), func(b []byte) []byte { return b[:10] })
		}, archive.FindingLog},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			for i := range 2 {
				s.add(t, "orders", 100*i+1, 100*i+100)
				s.add(t, "payments", 1000*i+1, 1000*i+40)
				works(t, "archive", "--once")
			}
			c.damage(t, s)
			status, stdout, stderr := command(t, "verify", "--json")
			if c.want == "" {
				if status != exitOK {
					t.Errorf("status %d: %s%s", status, stdout, stderr)
				}
				return
			}
			var v verification
			if err := json.Unmarshal([]byte(stdout), &v); err != nil || status != exitProblems {
				t.Fatalf("status %d, %v: %s%s", status, err, stdout, stderr)
			}
			found := false
			for _, r := range v.Streams {
				for _, f := range r.Findings {
					found = found || f.Kind == c.want && f.Severity == archive.Problem && f.Remedy != ""
				}
			}
			if !found || v.Problems == 0 {
				t.Errorf("no problem %q with a remedy in %s", c.want, stdout)
			}
			status, stdout, _ = command(t, "verify")
			if status != exitProblems || !strings.Contains(stdout, "problem ("+string(c.want)+")") || !strings.Contains(stdout, "remedy: ") {
				t.Errorf("status %d: %s", status, stdout)
			}
		})
	}
}

// TestVerifyRange reads only what the range holds.
func TestVerifyRange(t *testing.T) {
	s := newSite(t)
	for i := range 2 {
		s.add(t, "orders", 100*i+1, 100*i+100)
		works(t, "archive", "--once")
	}
	change(t, s.object(t, "orders", ".parquet"), flipMiddle)
	if status, _, _ := command(t, "verify", "--stream", "orders", "--to", "100"); status != exitProblems {
		t.Errorf("status %d of the damaged range", status)
	}
	if status, stdout, _ := command(t, "verify", "--stream", "orders", "--from", "101"); status != exitOK {
		t.Errorf("status %d of the sound range: %s", status, stdout)
	}
	fails(t, exitUsage, "invalid", "verify", "--from", "someday")
	fails(t, exitFailure, "nothing in the archive matches", "verify", "--stream", "nothing")
}

// TestMaintenance merges, expires and deletes, and the events stay as they were.
func TestMaintenance(t *testing.T) {
	s := newSite(t)
	for i := range 5 {
		s.add(t, "orders", 10*i+1, 10*i+10)
		works(t, "archive", "--once")
	}
	recent := time.Now()
	s.do(t, "XADD", "orders", "*", "n", "young")
	works(t, "archive", "--once")
	before := works(t, "events", "--stream", "orders", "-o", "raw")

	if got := works(t, "compact"); !strings.Contains(got, "orders: 10 segments became 2: 50 events") {
		t.Errorf("compact: %s", got)
	}
	if got := works(t, "compact"); !strings.Contains(got, "nothing to do") {
		t.Errorf("compact again: %s", got)
	}
	if got := works(t, "gc"); !strings.Contains(got, "0 segments and 0 snapshots, 0 B, deleted; 10 objects kept") {
		t.Errorf("gc within the grace period: %s", got)
	}
	fails(t, exitUsage, "too short to be safe", "gc", "--grace", "1s")
	if got := works(t, "gc", "--grace", "0s", "--force", "--dry-run"); !strings.HasPrefix(got, "orders: 10 segments") || !strings.Contains(got, "dry run") {
		t.Errorf("gc --dry-run: %s", got)
	}
	if got := works(t, "gc", "--grace", "0s", "--force", "--json"); !strings.Contains(got, `"segments": 10`) {
		t.Errorf("gc: %s", got)
	}
	if after := works(t, "events", "--stream", "orders", "-o", "raw"); after != before {
		t.Error("the events are not what they were")
	}

	fails(t, exitUsage, "not confirmed", "expire", "--older-than", "400d")
	fails(t, exitUsage, "how old", "expire")
	if got := works(t, "expire", "--older-than", "400d", "--dry-run"); !strings.Contains(got, "orders: 50 events in 2 segments") {
		t.Errorf("expire --dry-run: %s", got)
	}
	if after := works(t, "events", "--stream", "orders", "-o", "raw"); after != before {
		t.Error("a dry run changed the events")
	}
	if got := works(t, "expire", "--older-than", "400d", "--yes"); !strings.Contains(got, "orders: 50 events in 2 segments") {
		t.Errorf("expire: %s", got)
	}
	if after := works(t, "events", "--stream", "orders", "-o", "raw"); strings.Count(after, "\n") != 1 || !strings.Contains(after, "young") {
		t.Errorf("after expiry (since %s): %s", recent, after)
	}
	works(t, "verify")
}
