package app

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestShownCommands: the command lines that the pages and the help texts show
// have commands and flags that exist.
func TestShownCommands(t *testing.T) {
	line := regexp.MustCompile(`(?m)^\s*(?:\$ )?(?:bin/)?reservoir ([a-z].*)$`)
	shown := 0
	try := func(where, text string) {
		for _, found := range line.FindAllStringSubmatch(text, -1) {
			args := words(found[1])
			root := newRootCmd(newApp(Options{}, nil, nil, nil, nil))
			cmd, rest, err := root.Find(args)
			if err == nil {
				err = cmd.ParseFlags(rest)
			}
			if err != nil {
				t.Errorf("%s: %q: %v", where, found[0], err)
			}
			shown++
		}
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, page := range append(pages, "../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		try(page, string(text))
	}
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		try(cmd.CommandPath(), cmd.Example)
		for _, c := range cmd.Commands() {
			visit(c)
		}
	}
	visit(newRootCmd(newApp(Options{}, nil, nil, nil, nil)))
	if shown < 20 {
		t.Errorf("only %d command lines were found", shown)
	}
}

// words splits a command line as a shell would, as far as the pages need it, and
// ends where a comment, a pipe or what the examples explain begins.
func words(line string) []string {
	line, _, _ = strings.Cut(line, "   ")
	var out []string
	for _, word := range regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`).FindAllString(line, -1) {
		if strings.ContainsAny(word[:1], "#|>&;\\") {
			break
		}
		out = append(out, strings.Trim(word, `'"`))
	}
	return out
}
