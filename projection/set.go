package projection

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
)

// ErrUnknown is wrapped where no projection has a name.
var ErrUnknown = errors.New("no such projection")

// Set is the definitions of a directory, and the functions that they name. It
// does not change: any number of goroutines may use it at once.
type Set struct {
	definitions []*Definition // by name
	registry    *Registry
}

// Load reads all *.yaml and *.yml of a directory, or one file. The error is an
// *Error with everything that is wrong, or says that there is nothing to read.
// registry may be nil where no definition is of kind map or fold.
func Load(dir string, registry *Registry) (*Set, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("read projections: %w", err)
	}
	if !info.IsDir() {
		dir, name := filepath.Split(dir)
		return load(os.DirFS(filepath.Clean("./"+dir)), dir, []string{name}, registry)
	}
	return LoadFS(os.DirFS(dir), dir, registry)
}

// LoadFS is Load for a file system, whose root errors call by name.
func LoadFS(files fs.FS, name string, registry *Registry) (*Set, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("read projections: %w", err)
	}
	var names []string
	for _, e := range entries {
		ext := path.Ext(e.Name())
		if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") && (ext == ".yaml" || ext == ".yml") {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return nil, remedy.Wrapf(fmt.Errorf("there are no projections in %s", name), "put *.yaml there; docs/projections.md explains the format")
	}
	return load(files, name, names, registry)
}

func load(files fs.FS, dir string, names []string, registry *Registry) (*Set, error) {
	var (
		definitions []*Definition
		found       problems
	)
	for _, name := range names {
		read, bad, err := readFile(files, dir, name)
		if err != nil {
			return nil, err
		}
		definitions, found = append(definitions, read...), append(found, bad...)
	}
	return newSet(definitions, found, registry)
}

func readFile(files fs.FS, dir, name string) (_ []*Definition, _ problems, err error) {
	file, err := files.Open(name)
	if err != nil {
		return nil, nil, fmt.Errorf("read projections: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	definitions, found := read(filepath.Join(dir, name), file)
	return definitions, found, nil
}

// read reads the definitions of a file. Those with problems are among them.
func read(name string, in io.Reader) ([]*Definition, problems) {
	r := &reader{file: name}
	var (
		definitions []*Definition
		all         problems
	)
	r.documents(in, func(root *yaml.Node) {
		d := r.definition(root)
		r.validate(d)
		definitions = append(definitions, d)
		all, r.found = append(all, r.found...), nil
	})
	all = append(all, r.found...)
	if len(definitions) == 0 && len(all) == 0 {
		all = append(all, Problem{File: name, Line: 1, What: "it is empty", Remedy: "docs/projections.md explains the format"})
	}
	return definitions, all
}

// Parse is Load for one file, which errors call by name.
func Parse(name string, in io.Reader, registry *Registry) (*Set, error) {
	definitions, found := read(name, in)
	return newSet(definitions, found, registry)
}

// newSet checks what definitions have to do with each other and with functions.
func newSet(definitions []*Definition, found problems, registry *Registry) (*Set, error) {
	if registry == nil {
		registry = &Registry{}
	}
	owners := map[string]*Definition{} // of tables
	names := map[string]*Definition{}
	for _, d := range definitions {
		bad := func(field, remedy, format string, args ...any) {
			found = append(found, Problem{File: d.file, Line: d.line, Field: field, What: fmt.Sprintf(format, args...), Remedy: remedy})
		}
		if other := names[d.Name]; other != nil && d.Name != "" {
			bad("name", "give one of them another name", "%q is also at %s", d.Name, other.Where())
			continue
		}
		names[d.Name] = d
		for _, table := range d.tables() {
			if other := owners[table]; other != nil && other != d && table != "" {
				bad("table.name", "give one of them another table", "table %q is also that of %s", table, other.Where())
			}
			owners[table] = d
		}
		if d.Kind == Map || d.Kind == Fold {
			registry.check(d, bad)
		}
	}
	if err := found.err(); err != nil {
		return nil, err
	}
	slices.SortFunc(definitions, func(a, b *Definition) int { return strings.Compare(a.Name, b.Name) })
	return &Set{definitions, registry}, nil
}

// tables are the names of all tables that a projection fills.
func (d *Definition) tables() []string {
	names := []string{d.Table.Name}
	for _, dep := range d.Dependents {
		names = append(names, dep.Table.Name)
	}
	return names
}

// Get returns the projection of that name. The error wraps ErrUnknown, and names
// one that is near.
func (s *Set) Get(name string) (*Definition, error) {
	i, ok := slices.BinarySearchFunc(s.definitions, name, func(d *Definition, name string) int { return strings.Compare(d.Name, name) })
	if ok {
		return s.definitions[i], nil
	}
	err := fmt.Errorf("projection %.80q: %w", name, ErrUnknown)
	if near := didYouMean(name, s.names()); near != "" {
		return nil, remedy.Wrap(err, near)
	}
	return nil, remedy.Wrapf(err, "there are: %s", strings.Join(slices.Collect(s.names()), ", "))
}

// All gives the projections by name.
func (s *Set) All() iter.Seq[*Definition] { return slices.Values(s.definitions) }

// Len returns the number of projections.
func (s *Set) Len() int { return len(s.definitions) }

func (s *Set) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, d := range s.definitions {
			if !yield(d.Name) {
				return
			}
		}
	}
}

// Adder returns what adds the rows that the function of a projection of kind map makes
// of an event to Rows: all of them, or none.
func (s *Set) Adder(d *Definition, to *Rows) (func(*Event) error, error) {
	f, err := s.registry.function(d)
	if err != nil {
		return nil, err
	}
	return f.mapper.adder(to)
}

// Reads returns the attributes that the function of a projection of kind map looks at; 0: it
// may look at all of an event.
func (s *Set) Reads(d *Definition) (event.Attributes, error) {
	f, err := s.registry.function(d)
	return f.reads, err
}

// Folder returns the functions of a projection of kind fold.
func (s *Set) Folder(d *Definition) (Folder, error) {
	f, err := s.registry.function(d)
	return f.folder, err
}
