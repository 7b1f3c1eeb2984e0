package e2e_test

import (
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/internal/stack"
)

// docsLine gives the line of docs/operations.md that begins so.
func docsLine(t *testing.T, prefix string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	t.Fatalf("docs/operations.md has no line %q", prefix)
	return ""
}

// TestACLUsers archives as the user of the documentation that may only archive, and
// replays as the one that may only replay: with new IDs, held by a consumer group, and
// restoring a stream in its place, beside groups that are there.
func TestACLUsers(t *testing.T) {
	t.Parallel()
	w, rec := newFileWorld(t, stack.RedisOptions{}), newRecord()
	admin := w.admin(t)
	as := func(user string, more ...string) []string {
		rules := docsLine(t, "ACL SETUSER "+user+" ")
		var args []any
		for _, rule := range append(strings.Fields(strings.ReplaceAll(rules, "SECRET", "hunter2")+" +client|setname +ping +time +config|get"), more...) {
			args = append(args, rule)
		}
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(w.redis.URL())
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(user, "hunter2")
		return w.with(workerEnv, []string{"RESERVOIR_REDIS_URL=" + u.String(), "RESERVOIR_STREAMS_INCLUDE=shop:*"})
	}
	fill(t, w, rec, "shop:orders", 3000)
	if err := admin.XGroupCreate(t.Context(), "shop:orders", "workers", "0").Err(); err != nil {
		t.Fatal(err)
	}
	mustReservoir(t, as("reservoir"), "archive", "--once")
	before := wholeStream(t, admin, "shop:orders")
	restoring := regexp.MustCompile(`\+[a-z|]+`).FindAllString(docsLine(t, "To restore streams"), -1)

	replayer := as("replayer")
	mustReservoir(t, replayer, "replay", "run", "--stream", "shop:orders", "--into", "redis:shop:again", "--max-length", "1000000")
	if n := length(t, admin, "shop:again"); n != 3000 {
		t.Errorf("%d entries were replayed, want 3000", n)
	}
	if err := admin.XGroupCreate(t.Context(), "shop:again", "slow", "$").Err(); err != nil {
		t.Fatal(err)
	}
	mustReservoir(t, replayer, "replay", "run", "--stream", "shop:orders", "--into", "redis:shop:again", "--group", "slow", "--max-lag", "10", "--max-pending", "10", "--limit", "5")

	if err := admin.Del(t.Context(), "shop:orders").Err(); err != nil {
		t.Fatal(err)
	}
	if err := admin.XGroupCreateMkStream(t.Context(), "shop:orders", "workers", "0").Err(); err != nil {
		t.Fatal(err)
	}
	replayer = as("replayer", restoring...)
	mustReservoir(t, replayer, "replay", "run", "--stream", "shop:orders", "--into", "redis:{stream}", "--set", "ids=keep", "--set", "allow_source=true")
	checkRestored(t, "shop:orders", wholeStream(t, admin, "shop:orders"), before)
	if log, err := admin.Do(t.Context(), "ACL", "LOG").Slice(); err != nil || len(log) > 0 {
		t.Errorf("refused: %v, %v", log, err)
	}
}
