package sink

import (
	"fmt"
	"strings"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
)

// lane is what has one checkpoint: all target streams of a server, or those of
// one slot of a cluster, as far as their names show that it is one.
type lane struct {
	key     string
	targets []string       // the keys that are written
	names   []string       // those of the target streams: other ones if these are restored
	index   map[string]int // of names

	writer   *redisstream.FencedWriter
	position replay.Position
	idle     int    // batches since the checkpoint was written
	used     uint64 // when the writer was used last
}

// route is where the events of a stream go.
type route struct{ lane, target int }

// lanesOf returns the lanes of a replay and the routes of its streams.
func lanesOf(spec redisSpec, o replay.Opening, clustered bool) ([]lane, []route, error) {
	var lanes []lane
	routes := make([]route, len(o.Streams))
	byKey := map[string]int{}
	for i, s := range o.Streams {
		target := spec.target(s.Stream)
		key, tag := "reservoir:replay:"+o.Replay, ""
		if clustered {
			var ok bool
			if tag, ok = hashTag(target); !ok {
				return nil, nil, remedy.Wrapf(fmt.Errorf("target stream %q: no other key can be made to share its slot", target), "Choose a name without %q, or with a hash tag.", "}")
			}
			key = "reservoir:{" + tag + "}:replay:" + o.Replay
		}
		n, known := byKey[key]
		if !known {
			n = len(lanes)
			byKey[key] = n
			lanes = append(lanes, lane{key: key, index: map[string]int{}})
		}
		l := &lanes[n]
		t, known := l.index[target]
		if !known {
			t = len(l.targets)
			l.index[target] = t
			l.names = append(l.names, target)
			if spec.staged(o) {
				target = redisstream.Stage(o.Replay, tag, target)
			}
			l.targets = append(l.targets, target)
		}
		routes[i] = route{n, t}
	}
	return lanes, routes, nil
}

// hashTag returns what decides on a key's slot in a cluster: what stands between
// the first "{" and the first "}" after it, or all of the key. It is not ok if a
// tag cannot hold that.
func hashTag(key string) (tag string, ok bool) {
	if _, rest, found := strings.Cut(key, "{"); found {
		if tag, _, found := strings.Cut(rest, "}"); found && tag != "" {
			return tag, true
		}
	}
	return key, key != "" && !strings.Contains(key, "}")
}
