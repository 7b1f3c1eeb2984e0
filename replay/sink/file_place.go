package sink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/replay"
)

// markSuffix is what follows a file's name in that of its mark.
const markSuffix = ".reservoir-replay.json"

// markVersion is the version of fileMark.
const markVersion = 1

// maxMark bounds a mark.
const maxMark = 64 << 10

// fileMark says what a replay has written to a file.
type fileMark struct {
	Version  int             `json:"version"`
	Job      string          `json:"job"`
	Epoch    uint64          `json:"epoch"`
	Offset   int64           `json:"offset"`   // bytes of the file that count
	Position replay.Position `json:"position"` // of the last event in them
}

// filePlace is where a file is: a name below a directory that no symbolic link
// leads out of.
type filePlace struct {
	root *os.Root
	name string
	path string // for people, and the same for everyone
}

// place finds a file's place. The caller closes its root.
func (c *FileConfig) place(path string) (*filePlace, error) {
	if strings.HasSuffix(path, markSuffix) {
		return nil, fmt.Errorf("file %s: names that end in %s are the replay's own", path, markSuffix)
	}
	switch {
	case c.Anywhere:
		return c.placeAnywhere(path)
	case c.Dir == "":
		return nil, remedy.Wrap(errors.New("workers may not write files here"),
			"Set replay.files_dir in the configuration of the workers, or run the replay in the foreground: reservoir replay run.")
	}
	dir, err := resolved(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("directory of replays' files: %w", err)
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return nil, missingDirectory(path, err)
	}
	path = filepath.Join(parent, filepath.Base(path))
	name, err := filepath.Rel(dir, path)
	if err != nil || !filepath.IsLocal(name) {
		return nil, remedy.Wrapf(fmt.Errorf("file %s is outside of %s", path, dir), "Name a file in %s, which is replay.files_dir.", dir)
	}
	return openPlace(dir, name)
}

// placeAnywhere follows symbolic links wherever they lead.
func (*FileConfig) placeAnywhere(path string) (*filePlace, error) {
	if whole, err := resolved(path); err == nil {
		return openPlace(filepath.Dir(whole), filepath.Base(whole))
	}
	dir, err := resolved(filepath.Dir(path))
	if err != nil {
		return nil, missingDirectory(path, err)
	}
	return openPlace(dir, filepath.Base(path))
}

func missingDirectory(path string, err error) error {
	return remedy.Wrapf(fmt.Errorf("directory of file %s: %w", path, err), "Make the directory first: mkdir -p %s", filepath.Dir(path))
}

// resolved is an absolute path without symbolic links.
func resolved(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

func openPlace(dir, name string) (*filePlace, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &filePlace{root: root, name: name, path: filepath.Join(dir, name)}, nil
}

// mayBegin returns why a replay may not begin to write to a file that is there.
func (p *filePlace) mayBegin(stat fs.FileInfo, o *fileOptions) error {
	switch {
	case !stat.Mode().IsRegular():
		return remedy.Wrap(fmt.Errorf("%s is not a regular file", p.path), "Replay to standard output, with the target -, and redirect that.")
	case stat.Size() > 0 && !o.Append && !o.Overwrite:
		return remedy.Wrapf(fmt.Errorf("file %s is not empty", p.path), "Choose another file, or give the option append=true or overwrite=true.")
	}
	return nil
}

// foreign says that another replay has the file.
func (p *filePlace) foreign(m *fileMark) error {
	return remedy.Wrapf(fmt.Errorf("file %s belongs to replay %s, which has not ended", p.path, m.Job),
		"Let replay %s end, or cancel it. If it is long gone, remove %s.", m.Job, p.path+markSuffix)
}

// readMark returns the file's mark; nil when it has none.
func (p *filePlace) readMark() (_ *fileMark, err error) {
	f, err := p.root.Open(p.name + markSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the mark of file %s: %w", p.path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(io.LimitReader(f, maxMark))
	if err != nil {
		return nil, fmt.Errorf("read the mark of file %s: %w", p.path, err)
	}
	var m fileMark
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("the mark %s is damaged: %w", p.path+markSuffix, err)
	}
	if m.Version != markVersion {
		return nil, fmt.Errorf("the mark %s has version %d, of another release", p.path+markSuffix, m.Version)
	}
	return &m, nil
}

// writeMark replaces the mark. It is there to stay when this returns nil.
func (p *filePlace) writeMark(m *fileMark) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	name := p.name + markSuffix
	f, err := p.root.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := p.root.Rename(name+".new", name); err != nil {
		return err
	}
	return p.syncDir()
}

// removeMark removes the mark, and what a crash may have left of the next one.
func (p *filePlace) removeMark() error {
	for _, suffix := range []string{markSuffix, markSuffix + ".new"} {
		if err := p.root.Remove(p.name + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return p.syncDir()
}

// syncDir makes names in the file's directory there to stay.
func (p *filePlace) syncDir() error {
	d, err := p.root.Open(filepath.Dir(p.name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
