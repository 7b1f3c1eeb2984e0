package httpapi_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What is generated is what the document says: run `go generate ./httpapi` when this
// fails.
func TestGeneratedCodeIsFresh(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the generator")
	}
	for _, part := range []string{"types", "server", "client"} {
		out := filepath.Join(t.TempDir(), part+".go")
		config, err := os.ReadFile(filepath.Join("api", part+".cfg.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		elsewhere := filepath.Join(t.TempDir(), "cfg.yaml")
		if err := os.WriteFile(elsewhere, bytes.Replace(config, []byte("api/"+part+".gen.go"), []byte(out), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "go", "tool", "oapi-codegen", "-config", elsewhere, "openapi.yaml")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", part, err, text)
		}
		want, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("api", part+".gen.go"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("api/%s.gen.go is stale: run go generate ./httpapi", part)
		}
	}
}
