package app

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/internal/doctor"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

// TestDoctor runs the command against real servers, well and ailing.
func TestDoctor(t *testing.T) {
	redis := stacktest.Redis(t, stack.RedisOptions{AOF: true, ACL: []string{
		"user default on nopass ~* &* +@all",
		"user archiver on >hunter2 ~* +@all",
	}})
	s3 := stacktest.S3(t, stack.S3Options{})
	newer := t.TempDir()
	if err := os.WriteFile(filepath.Join(newer, "reservoir.json"), []byte(`{"format":"reservoir.archive","version":99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	notDir := filepath.Join(newer, "reservoir.json", "x")
	t.Chdir(t.TempDir())
	t.Setenv("RESERVOIR_REDIS_URL", redis.URL())
	t.Setenv("RESERVOIR_STORE_URL", "s3://"+s3.Bucket()+"/prefix")
	t.Setenv("RESERVOIR_STORE_ENDPOINT", s3.Endpoint())
	t.Setenv("RESERVOIR_STORE_ACCESS_KEY", stack.S3AccessKey)
	t.Setenv("RESERVOIR_STORE_SECRET_KEY", stack.S3SecretKey)

	for _, c := range []struct {
		name, env string
		status    int
		check     string // area and name of a check that fails; empty: none does
		want      string // in its detail
	}{
		{"well", "", exitOK, "", ""},
		{"directory", "STORE_URL=file://" + t.TempDir(), exitOK, "", ""},
		{"wrong secret key", "STORE_SECRET_KEY=hunter2hunter2", exitProblems, "store list", ""},
		{"no such bucket", "STORE_URL=s3://nowhere", exitProblems, "store list", "nowhere"},
		{"no server", "STORE_ENDPOINT=http://127.0.0.1:1", exitProblems, "store list", "127.0.0.1:1"},
		{"newer archive", "STORE_URL=file://" + newer, exitProblems, "store archive", "newer version"},
		{"not a directory", "STORE_URL=file://" + notDir, exitProblems, "store open", "reservoir.json"},
		{"store not set", "STORE_URL=", exitProblems, "store url", "not set"},
		{"no Redis", "REDIS_URL=redis://127.0.0.1:1", exitProblems, "redis connect", "cannot be reached"},
		{"wrong password", "REDIS_PASSWORD=hunter3", exitProblems, "redis connect", "refused"},
		{"password", "REDIS_PASSWORD=hunter2", exitOK, "", ""},
		{"endpoint", "STORE_ENDPOINT=nonsense", exitProblems, "store open", "nonsense"},
		{"wrong configuration", "STORE_ENDPONT=x", exitUsage, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("RESERVOIR_REDIS_USERNAME", "archiver")
			t.Setenv("RESERVOIR_REDIS_PASSWORD", "hunter2")
			if name, value, ok := strings.Cut(c.env, "="); ok {
				t.Setenv("RESERVOIR_"+name, value)
			}
			status, text, stderr := command(t, "doctor")
			if status != c.status {
				t.Fatalf("status %d, want %d:\n%s%s", status, c.status, text, stderr)
			}
			_, stdout, _ := command(t, "doctor", "--json")
			if strings.Contains(text+stdout+stderr, "hunter") {
				t.Errorf("a secret in %s%s", text, stdout)
			}
			if c.status == exitUsage {
				return
			}
			var checks []doctor.Check
			if err := json.Unmarshal([]byte(stdout), &checks); err != nil {
				t.Fatal(err)
			}
			for _, check := range checks {
				if check.Status != doctor.Fail {
					continue
				}
				if check.Area+" "+check.Name != c.check || !strings.Contains(check.Detail, c.want) || check.Remedy == "" {
					t.Errorf("%+v, want %s: %s", check, c.check, c.want)
				}
				if !strings.Contains(text, "remedy: "+check.Remedy) {
					t.Errorf("no remedy in the text:\n%s", text)
				}
				c.check = ""
			}
			if c.check != "" {
				t.Errorf("%s did not fail:\n%s", c.check, text)
			}
		})
	}
}
