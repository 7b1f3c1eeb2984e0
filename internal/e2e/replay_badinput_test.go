package e2e_test

import (
	"slices"
	"testing"

	"github.com/reservoirhq/reservoir/internal/stack"
)

// TestReplayBadInput: what cannot be right is refused with one error and its
// remedy, before there is a job or a key.
func TestReplayBadInput(t *testing.T) {
	t.Parallel()
	w := newFileWorld(t, stack.RedisOptions{})
	sell(t, w, 300, nil)
	admin := w.admin(t)
	if err := admin.Set(t.Context(), "text", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	keys := func() []string {
		k, err := admin.Keys(t.Context(), "*").Result()
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(k)
		return k
	}
	before := keys()
	const orders = "shop:orders"
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"range that ends before it begins", []string{"--stream", orders, "--into", "redis:x", "--from", "2027-01-02", "--to", "2027-01-01"},
			[]string{"from, to: ", "lies after", "remedy: Give a range that begins before it ends"}},
		{"range that is no range", []string{"--stream", orders, "--into", "redis:x", "--from", "yesteryear"},
			[]string{`"yesteryear"`, "remedy: "}},
		{"range with nothing in it", []string{"--stream", orders, "--into", "redis:x", "--from", "2033-01-01"},
			[]string{"nothing to replay", "remedy: Choose a range within what is archived"}},
		{"unknown stream", []string{"--stream", "shop:ordres", "--into", "redis:x"},
			[]string{`"shop:ordres"`, "no such stream in the archive", "shop:orders"}},
		{"unknown pattern", []string{"--stream", "store:*", "--into", "redis:x"},
			[]string{`"store:*"`, "remedy: "}},
		{"no stream", []string{"--into", "redis:x"}, []string{"stream", "remedy: "}},
		{"host that is not allowed", []string{"--stream", orders, "--into", "https://example.com/hook"},
			[]string{"example.com", "host is not allowed", "remedy: Add example.com to replay.allow_hosts"}},
		{"Redis that is not allowed", []string{"--stream", orders, "--into", "redis://10.1.2.3:6379"},
			[]string{"10.1.2.3", "host is not allowed", "remedy: Add 10.1.2.3 to replay.allow_hosts"}},
		{"broker that is not allowed", []string{"--stream", orders, "--into", "kafka:broker.example.com:9092/topic"},
			[]string{"broker.example.com", "host is not allowed", "remedy: "}},
		{"predicate with a typo", []string{"--stream", orders, "--into", "redis:x", "--where", `payload.amount >> 3`},
			[]string{"filter.where", "(1:17)", "................^", "remedy: Correct it at the position shown"}},
		{"predicate with an unknown name", []string{"--stream", orders, "--into", "redis:x", "--where", `tenat == "acme"`},
			[]string{"filter.where", "tenat", "(1:1)", "remedy: Correct it at the position shown"}},
		{"target that is the source", []string{"--stream", orders, "--into", "redis:{stream}"},
			[]string{`the target "shop:orders" is a stream that is replayed`, "remedy: ", "allow_source"}},
		{"target that is another source", []string{"--stream", "shop:*", "--into", "redis:shop:payments"},
			[]string{`the target "shop:payments" is a stream that is replayed`, "allow_source"}},
		{"target that is no stream", []string{"--stream", orders, "--into", "redis:text"},
			[]string{"text", "not a stream", "remedy: "}},
		{"restoring into a stream that is not empty", []string{"--stream", orders, "--into", "redis:shop:payments", "--set", "ids=keep"},
			[]string{"shop:payments", "fresh stream only", "remedy: "}},
		{"restoring two streams as one", []string{"--stream", "shop:*", "--into", "redis:x", "--set", "ids=keep"},
			[]string{`would both be restored as "x"`, "remedy: "}},
		{"group that is not there", []string{"--stream", orders, "--into", "redis:x", "--group", "nobody", "--max-lag", "10"},
			[]string{`no consumer group "nobody"`, "remedy: Make the group first"}},
		{"option that is not there", []string{"--stream", orders, "--into", "redis:x", "--set", "idz=keep"},
			[]string{"idz", "remedy: "}},
		{"target that is not known", []string{"--stream", orders, "--into", "rediss-x:y"},
			[]string{"rediss-x:y", "remedy: "}},
		{"rate that is no rate", []string{"--stream", orders, "--into", "redis:x", "--rate", "fast"},
			[]string{"--rate", `"fast"`, "500/s", "remedy: "}},
		{"two paces", []string{"--stream", orders, "--into", "redis:x", "--rate", "5", "--speed", "2x"},
			[]string{"pace", "remedy: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, command := range []string{"create", "run", "estimate"} {
				wantOneError(t, reservoir(t, w.with(workerEnv), append([]string{"replay", command}, c.args...)...), 2, c.want...)
				if t.Failed() {
					t.Fatalf("this was replay %s", command)
				}
			}
		})
	}
	if n := w.jobCount(t); n != 0 {
		t.Errorf("there are %d jobs", n)
	}
	if after := keys(); !slices.Equal(after, before) {
		t.Errorf("redis has the keys %q, and had %q", after, before)
	}
}
