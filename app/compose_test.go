package app

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// composed loads docker-compose.yml as docker compose does.
func composed(t *testing.T) *types.Project {
	t.Helper()
	opts, err := cli.NewProjectOptions([]string{"../docker-compose.yml"})
	if err != nil {
		t.Fatal(err)
	}
	project, err := opts.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// shellLine finds the command lines of reservoir in a script.
var shellLine = regexp.MustCompile(`(?m)(?:^|[;&|(]|\b(?:if|then|do|else)\b)\s*reservoir ([^;&|>\n]+)`)

// commandLines are what a service runs of reservoir.
func commandLines(t *testing.T, s types.ServiceConfig) (lines [][]string) {
	t.Helper()
	if len(s.Entrypoint) == 0 {
		return [][]string{s.Command}
	}
	if len(s.Command) != 1 || s.Entrypoint[0] != "/bin/sh" {
		t.Fatalf("%s: want a script of sh, not %q %q", s.Name, s.Entrypoint, s.Command)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-n", "-c", s.Command[0]).CombinedOutput(); err != nil {
		t.Errorf("%s: %v: %s", s.Name, err, out)
	}
	for _, found := range shellLine.FindAllStringSubmatch(s.Command[0], -1) {
		lines = append(lines, strings.Fields(found[1]))
	}
	return lines
}

// TestCompose: what docker-compose.yml runs of reservoir exists, and can be configured
// as it is there.
func TestCompose(t *testing.T) {
	project := composed(t)
	ran := map[string]bool{}
	for _, s := range project.Services {
		if s.HealthCheck == nil && s.Name != "setup" {
			t.Errorf("%s has no health check", s.Name)
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %d is open to others", s.Name, p.Target)
			}
		}
		for name := range s.DependsOn {
			if _, ok := project.Services[name]; !ok {
				t.Errorf("%s depends on %s, which there is not", s.Name, name)
			}
		}
		if s.Image != "reservoir" {
			continue
		}
		var environ []string
		for name, value := range s.Environment {
			environ = append(environ, name+"="+*value)
		}
		for _, args := range commandLines(t, s) {
			app := newApp(Options{}, nil, nil, nil, environ)
			cmd, rest, err := newRootCmd(app).Find(args)
			if err == nil {
				err = cmd.ParseFlags(rest)
			}
			if err == nil {
				err = cmd.ValidateArgs(cmd.Flags().Args())
			}
			if err == nil {
				app.cfg, err = app.load(cmd)
			}
			if err != nil {
				t.Errorf("%s: reservoir %s: %v", s.Name, strings.Join(args, " "), err)
				continue
			}
			ran[cmd.CommandPath()] = true
			if err := redisConfig(app.cfg).Validate(); err != nil {
				t.Errorf("%s: %v", s.Name, err)
			}
			if _, err := app.openStore(t.Context()); err != nil || !app.hasRebuilds() {
				t.Errorf("%s: no store or no projections: %v", s.Name, err)
			}
		}
	}
	want := []string{"reservoir archive", "reservoir import", "reservoir migrate sync", "reservoir migrate up", "reservoir serve", "reservoir token create"}
	if got := slices.Sorted(maps.Keys(ran)); !slices.Equal(got, want) {
		t.Errorf("it runs %q, want %q", got, want)
	}
}

// TestDockerfile: what is copied is there, the compiler is ours, and nothing runs as root.
func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	compiler := regexp.MustCompile(`FROM .*golang:([0-9.]+)-`).FindSubmatch(text)
	if compiler == nil || !regexp.MustCompile(`(?m)^go `+regexp.QuoteMeta(string(compiler[1]))+`\b`).Match(module) {
		t.Errorf("it is built with Go %s", compiler)
	}
	for _, line := range regexp.MustCompile(`(?m)^COPY ([^-\n].*) \S+$`).FindAllStringSubmatch(string(text), -1) {
		for source := range strings.FieldsSeq(line[1]) {
			if found, err := filepath.Glob(filepath.Join("..", source)); err != nil || len(found) == 0 {
				t.Errorf("COPY %s: it is not there, %v", source, err)
			}
		}
	}
	if user := regexp.MustCompile(`(?m)^USER (\S+)$`).FindSubmatch(text); user == nil || string(user[1]) == "root" || string(user[1]) == "0" {
		t.Errorf("it runs as %q", user)
	}
	if !strings.Contains(string(text), "\nENTRYPOINT [\"reservoir\"]\nCMD [\"serve\"]\n") {
		t.Error("it does not serve")
	}
}
