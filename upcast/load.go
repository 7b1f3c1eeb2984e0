package upcast

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Load reads rules from a YAML file, or from all *.yaml and *.yml of a
// directory, and adds those made in Go. Its error joins everything that is wrong,
// each with its file, line and field.
func Load(path string, rules ...Rule) (*Set, error) {
	files, err := filesOf(path)
	if err != nil {
		return nil, fmt.Errorf("read upcasters: %w", err)
	}
	all := slices.Clone(rules)
	var errs []error
	for _, file := range files {
		declared, err := loadFile(file)
		if err != nil {
			errs = append(errs, err)
		}
		all = append(all, declared...)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return New(all...)
}

// Parse is Load for one file, which errors call by name. Files of samples are
// looked for in the directory of that name.
func Parse(name string, r io.Reader, rules ...Rule) (*Set, error) {
	declared, err := readRules(name, r)
	if err != nil {
		return nil, err
	}
	return New(append(declared, rules...)...)
}

// filesOf lists the files that a path stands for.
func filesOf(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path) // by name
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".yaml" || ext == ".yml") {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s holds no *.yaml", path)
	}
	return files, nil
}

func loadFile(name string) (rules []Rule, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read upcasters: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return readRules(name, f)
}
