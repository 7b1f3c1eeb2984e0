package app

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/config"
)

func newConfigCmd(app *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:         "config",
		Short:       "Show, check and explain the configuration",
		Args:        subcommandOnly,
		Annotations: withoutConfig,
		RunE: func(*cobra.Command, []string) error {
			return usagef("want show, check or keys")
		},
	}
	cmd.AddCommand(newConfigShowCmd(app), newConfigCheckCmd(app), newConfigKeysCmd(app))
	return cmd
}

// configValue is one effective value.
type configValue struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

func newConfigShowCmd(app *app) *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the effective configuration and where each value is from, secrets hidden",
		Example: `  reservoir config show
  reservoir config show --all --json | jq '.[] | select(.origin != "default")'`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			var values []configValue
			for _, k := range config.Keys() {
				v := configValue{k.Name, app.cfg.Text(k), app.cfg.Origin(k.Name).String()}
				if all || v.Value != "" || v.Origin != "default" {
					values = append(values, v)
				}
			}
			if asJSON {
				return app.printJSON(values)
			}
			t := app.table("KEY", "VALUE", "FROM")
			for _, v := range values {
				t.row(v.Key, v.Value, v.Origin)
			}
			return t.flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&all, "all", false, "also keys that are empty")
	return cmd
}

func newConfigCheckCmd(app *app) *cobra.Command {
	return &cobra.Command{
		Use:         "check",
		Short:       "Check the configuration without reaching anything",
		Long:        "Check the configuration without reaching anything. `reservoir doctor` tries what it names.",
		Args:        cobra.NoArgs,
		Annotations: withoutConfig, // loading it is the work
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := app.load(cmd)
			if err != nil {
				return usageError{err}
			}
			app.cfg = cfg
			if err := redisConfig(cfg).Validate(); err != nil {
				return usageError{fmt.Errorf("redis configuration: %w", err)}
			}
			file := cfg.File
			if file == "" {
				file = "no file"
			}
			_, err = fmt.Fprintf(app.stdout, "configuration is valid (%s)\n", file)
			return err
		},
	}
}

func newConfigKeysCmd(app *app) *cobra.Command {
	var markdown bool
	cmd := &cobra.Command{
		Use:         "keys [WORD]",
		Short:       "List every key with its environment variable, default and meaning; only those that hold WORD",
		Example:     "  reservoir config keys roll",
		Args:        cobra.MaximumNArgs(1),
		Annotations: withoutConfig,
		RunE: func(_ *cobra.Command, args []string) error {
			if markdown {
				_, err := fmt.Fprint(app.stdout, config.Markdown())
				return err
			}
			return app.printKeys(args...)
		},
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "print the reference page")
	return cmd
}
