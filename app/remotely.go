package app

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/config"
	"github.com/reservoirhq/reservoir/internal/remedy"
)

// remoteAnnotation marks the commands that work through a server too.
const remoteAnnotation = "reservoir-remote"

// remotely marks a command that works through a server too.
func remotely(cmd *cobra.Command) *cobra.Command {
	cmd.Annotations = map[string]string{remoteAnnotation: "yes"}
	return cmd
}

// refuseServer refuses a server that a command would not go through. Where only the
// configuration or the environment names one, commands other than those of jobs leave it
// alone: it is not meant for them.
func (a *app) refuseServer(cmd *cobra.Command) error {
	path := cmd.CommandPath()
	ofJobs := strings.HasPrefix(path, "reservoir replay ") || strings.HasPrefix(path, "reservoir rebuild ")
	switch {
	case a.cfg.Client.URL.IsZero() || cmd.Annotations[remoteAnnotation] != "":
		return nil
	case ofJobs:
		what := "create it instead, and a worker of the server runs it: `" + strings.Replace(path, " run", " create", 1) + " --watch`"
		if cmd.Name() == "dry-run" {
			what = "run it where ClickHouse and the definitions are at hand"
		}
		return usageError{a.notThrough("`"+path+"` works in this process, on the bucket itself", what)}
	case a.cfg.Origin("client.url").Layer == config.LayerFlag:
		return usageError{a.notThrough("`"+path+"` works on the bucket itself", "run it where the bucket is at hand")}
	default:
		return nil
	}
}

// notThrough says that something does not go through the server that is named, and
// what to do in place of it.
func (a *app) notThrough(what, instead string) error {
	named := a.cfg.Origin("client.url").String()
	return remedy.Wrap(fmt.Errorf("%s, and not through a server, which %s names", what, named), instead+"; or leave "+named+" out")
}
