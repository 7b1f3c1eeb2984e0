package app

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTokenCommands(t *testing.T) {
	t.Chdir(t.TempDir())
	root := t.TempDir()
	t.Setenv("RESERVOIR_STORE_URL", "file://"+root)
	t.Setenv("RESERVOIR_USER", "ann")
	var made madeToken
	text := works(t, "token", "create", "--role", "operator", "--tenant", "acme", "--stream", "shop:*", "--stream", "logs", "--expires", "90d", "--json")
	if err := json.Unmarshal([]byte(text), &made); err != nil {
		t.Fatal(err)
	}
	if k := made.Token; !strings.HasPrefix(made.Text, "rsv_"+k.ID+"_") || k.Name != "ann" || k.CreatedBy != "ann" || k.Role != "operator" || len(k.Streams) != 2 || len(k.Tenants) != 1 ||
		k.ExpiresAt.Sub(k.CreatedAt).Round(time.Hour) != 90*24*time.Hour || k.State != "valid" {
		t.Errorf("%+v", made)
	}
	if got := works(t, "token", "create", "--first", "--quiet"); got != "" {
		t.Errorf("it is not the first one: %q", got)
	}
	quiet := works(t, "token", "create", "--name", "ci", "--quiet")
	if !strings.HasPrefix(quiet, "rsv_") || strings.Count(quiet, "\n") != 1 {
		t.Errorf("%q", quiet)
	}
	shown := works(t, "token", "create", "--name", "eve")
	if !strings.Contains(shown, "rsv_") || !strings.Contains(shown, "eve, viewer, until it is revoked") {
		t.Errorf("%q", shown)
	}
	if got := works(t, "token", "revoke", made.Token.ID); got != "token "+made.Token.ID+" is revoked\n" {
		t.Errorf("%q", got)
	}
	for args, want := range map[string]int{"": 2, "--all": 3} {
		var list tokenList
		text := works(t, append([]string{"token", "list", "--json"}, strings.Fields(args)...)...)
		if err := json.Unmarshal([]byte(text), &list); err != nil || len(list.Tokens) != want || strings.Contains(text, "hash") || strings.Contains(text, "rsv_") {
			t.Errorf("list %s: %s, %v", args, text, err)
		}
	}
	if got := works(t, "token", "list", "--all"); !strings.Contains(got, "revoked") || !strings.Contains(got, "shop:*,logs") || !strings.Contains(got, "never") {
		t.Error(got)
	}
	trail, err := filepath.Glob(root + "/audit/*/*/*/*.json")
	if err != nil || len(trail) != 4 {
		t.Fatalf("%d entries in the audit trail, want 4", len(trail))
	}
	first, err := os.ReadFile(trail[0])
	if err != nil || !strings.Contains(string(first), `"who":"cli:ann"`) || !strings.Contains(string(first), `"result":"done"`) || !strings.Contains(string(first), made.Token.ID) {
		t.Errorf("%s, %v", first, err)
	}
	for args, want := range map[string]string{
		"token create --role king":                "want viewer, operator or admin",
		"token create --expires soon":             "--expires",
		"token create --expires 0d":               "--expires",
		"token revoke":                            "which token?",
		"token revoke 4711":                       "reservoir token list",
		"token rotate":                            "unknown command",
		"serve --project":                         "clickhouse.url",
		"serve --cert no.crt --key no.key":        "server.tls",
		"serve --listen 8080":                     "server.listen",
		"token create --store-url s4://somewhere": "store.url",
	} {
		if status, _, stderr := command(t, strings.Fields(args)...); status != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: %d: %s", args, status, stderr)
		}
	}
	if status, _, stderr := command(t, "token", "revoke", "01KAJ4M5N6P7Q8R9S0T1V2W3X4"); status != exitFailure || !strings.Contains(stderr, "--all") {
		t.Errorf("%d: %s", status, stderr)
	}
}
