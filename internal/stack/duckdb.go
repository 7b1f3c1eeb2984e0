package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// DuckDB runs the statements in an in-memory DuckDB (the npm package, in Node.js)
// and decodes the rows of the last one into rows, a pointer to a slice. Integers of
// 64 bits and more, and timestamps, come as strings; binary values as
// {"$base64": "…"}.
func DuckDB(ctx context.Context, statements string, rows any) error {
	node, err := Binary("node")
	if err != nil {
		return fmt.Errorf("run DuckDB: %w", err)
	}
	module, err := nodeModule("@duckdb", "node-api", "package.json")
	if err != nil {
		return fmt.Errorf("run DuckDB: the npm package @duckdb/node-api: %w (run `make tools`)", ErrNoBinary)
	}
	root, err := moduleRoot()
	if err != nil {
		return fmt.Errorf("run DuckDB: %w", err)
	}
	cmd := exec.CommandContext(ctx, node, filepath.Join(root, "scripts", "duckdb-query.mjs"), module)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(statements), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run DuckDB: %w", errors.Join(err, errors.New(strings.TrimSpace(stderr.String()))))
	}
	if err := json.Unmarshal(stdout.Bytes(), rows); err != nil {
		return fmt.Errorf("run DuckDB: read the rows: %w", err)
	}
	return nil
}
