package config

import (
	"fmt"
	"strings"
)

const docsHead = `# Configuration

<!-- Made from config/config.go by "go test ./config -update"; do not edit. -->

Reservoir reads, each over the one before it:

1. the defaults below,
2. one YAML file: ` + "`--config FILE`, else `$RESERVOIR_CONFIG`, else `./reservoir.yaml`, else `/etc/reservoir/reservoir.yaml`" + `, if there is one,
3. environment variables,
4. command-line flags.

` + "`reservoir config show`" + ` prints what came of it and where each value is from, ` + "`reservoir config check`" + ` only says what is
wrong. A key that does not exist is an error, so that a typo cannot go unnoticed.

Each key is also an environment variable: ` + "`redis.url` is `RESERVOIR_REDIS_URL`" + `. In the environment and in flags a list is separated by
commas. A duration is a number and a unit (` + "`300ms`, `30s`, `15m`, `12h`, `7d`, `2w`" + `), and so is a size (` + "`512KiB`, `64MiB`, `2GiB`; `100MB`" + ` counts in
powers of ten). Secrets are never printed; each can come from a file instead.

` + "```yaml" + `
redis:
  url: redis://localhost:6379
  password_file: /run/secrets/redis
store:
  url: s3://my-bucket/reservoir
streams:
  include: ["orders:*", payments]
archive:
  roll: {size: 128MiB, age: 30s}
` + "```" + `
`

// Markdown gives the reference of all keys, docs/configuration.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString(docsHead)
	bySection := map[string][]Key{}
	for _, k := range Keys() {
		bySection[k.Section()] = append(bySection[k.Section()], k)
	}
	for _, s := range Sections() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| key | type | default | meaning |\n|---|---|---|---|\n", s.Name, s.Doc)
		for _, k := range bySection[s.Name] {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Name, k.typeText(), code(k.Default), strings.ReplaceAll(k.Doc, "|", `\|`))
		}
	}
	return b.String()
}

// typeText names the type with its bounds.
func (k Key) typeText() string {
	t := k.Type
	if len(k.Enum) > 0 {
		if t == "text" {
			t = ""
		} else {
			t += " of "
		}
		t += "`" + strings.Join(k.Enum, "`, `") + "`"
	}
	if k.Min != "" && !strings.HasPrefix(k.Min, "0") {
		t += ", at least " + k.Min
	}
	return t
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
