package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// ProgramOptions say how to run a Program.
type ProgramOptions struct {
	Path string   // of the binary
	Args []string // arguments
	Env  []string // the whole environment
	Dir  string   // working directory, with the log of its output; made if it is not there
}

// Program is a running program that is no server of this package: it counts as
// started when it runs. It ends when asked by SIGTERM.
type Program struct{ Server }

// StartProgram starts the program under the name that errors call it by. Close ends it.
func StartProgram(ctx context.Context, name string, opts ProgramOptions) (*Program, error) {
	p := &Program{}
	p.name, p.path, p.args, p.dir = name, opts.Path, opts.Args, opts.Dir
	p.environ = opts.Env
	p.ready = func(context.Context) error { return nil }
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := p.firstStart(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// LastOutput returns the end of what the program wrote, for an error's text.
func (p *Program) LastOutput() string { return p.lastOutput() }
