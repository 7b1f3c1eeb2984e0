package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/redisstream"
)

func (e *examination) redis(ctx context.Context) {
	client, err := e.ConnectRedis(ctx)
	if e.failed("connect", err, "correct the redis.* keys") {
		return
	}
	defer func() { e.failed("close", client.Close(), "") }()
	e.ok("connect", "%s answers", e.Config.Redis.URL)
	if !e.commands(ctx, client) {
		return
	}
	server, err := client.Server(ctx)
	if e.failed("server", err, "") {
		return
	}
	e.ok("version", "Redis %s, %s", server.Version, server.Mode) // Connect refuses those too old
	if server.Role == "master" {
		e.ok("role", "master")
	} else {
		e.fail("role", "point redis.url at the master, or name the sentinels with redis.mode: sentinel",
			"is a replica: it may lag behind its master, and what it lacks would look lost")
	}
	e.memory(server)
	e.persistence(ctx, client, server)
	e.clock("Redis", server.Time.Sub(time.Now().Add(-server.RoundTrip/2)), server.RoundTrip/2)
	e.streams(ctx, client)
}

// commands tries what Reservoir is going to do.
func (e *examination) commands(ctx context.Context, client *redisstream.Client) bool {
	a := e.Config.Archive
	denied, err := client.Denied(ctx, redisstream.Uses{Trim: a.Trim.Enabled, Mirror: a.Group != ""})
	if e.failed("permissions", err, "") {
		return false
	}
	if len(denied) > 0 {
		e.fail("permissions", "run: ACL SETUSER <user> +"+strings.Join(denied, " +"), "the user may not run %s", strings.ToUpper(strings.Join(denied, ", ")))
		return false
	}
	e.ok("permissions", "every command that is used is allowed")
	return true
}

func (e *examination) memory(s redisstream.Server) {
	const raise = "set maxmemory-policy to noeviction, and give Redis memory for what is not archived yet"
	switch {
	case s.MaxMemory == 0:
		e.ok("memory", "no maxmemory: nothing is evicted")
	case strings.HasPrefix(s.Policy, "allkeys-"):
		e.warn("memory", raise, "maxmemory-policy is %s: Redis deletes whole streams when it runs out of memory", s.Policy)
	case strings.HasPrefix(s.Policy, "volatile-"):
		e.ok("memory", "maxmemory-policy is %s: only streams with an expiry are evicted", s.Policy)
	default:
		e.ok("memory", "maxmemory-policy is %s", s.Policy)
	}
}

func (e *examination) persistence(ctx context.Context, client *redisstream.Client, s redisstream.Server) {
	switch {
	case s.AOF:
		sync, err := client.Setting(ctx, "appendfsync")
		switch {
		case errors.Is(err, redisstream.ErrPermission):
			e.ok("persistence", "append-only file (the user may not see how often it is synced)")
		case e.failed("persistence", err, ""):
		case sync == "no":
			e.warn("persistence", "set appendfsync to everysec or always", "append-only file that is synced when the system likes: events of the last half minute can be lost in a power cut")
		default:
			e.ok("persistence", "append-only file, synced %s", sync)
		}
	case s.RDB != "":
		e.warn("persistence", "set appendonly to yes", "snapshots only: a crash of Redis loses the events since the last one that were not archived yet")
	default:
		e.warn("persistence", "set appendonly to yes", "no append-only file: a crash of Redis loses the events that were not archived yet")
	}
}

// maxStreams bounds how many streams are looked at one by one.
const maxStreams = 1000

// streams looks at the streams that the patterns select.
func (e *examination) streams(ctx context.Context, client *redisstream.Client) {
	var names []string
	count := 0
	include := e.Config.Streams.Include
	for name, err := range client.Discover(ctx, include, e.Config.Streams.Exclude) {
		if e.failed("streams", err, "") {
			return
		}
		if count++; len(names) < maxStreams {
			names = append(names, name)
		}
	}
	infos, err := client.Infos(ctx, names)
	if e.failed("streams", err, "") {
		return
	}
	var live []string
	for _, info := range infos {
		switch {
		case errors.Is(info.Err, redisstream.ErrNoStream):
			count--
			e.warn("stream "+info.Stream, "check the name in streams.include, or begin to publish", "does not exist yet")
		case info.Err != nil:
			e.failed("stream "+info.Stream, info.Err, "")
		default:
			live = append(live, info.Stream)
		}
	}
	if count == 0 {
		e.warn("streams", "check streams.include and streams.exclude, and redis.db", "no stream matches %s", strings.Join(include, ", "))
		return
	}
	e.ok("streams", "%s selected by %s", plural(count, "stream"), strings.Join(include, ", "))
	e.expiry(ctx, client, live)
	e.group(ctx, client, live)
}

// sampled bounds the streams that are asked about in a round trip each.
const sampled = 100

// expiry warns of streams that Redis is going to delete.
func (e *examination) expiry(ctx context.Context, client *redisstream.Client, streams []string) {
	var expiring []string
	var soonest time.Duration
	for _, stream := range streams[:min(len(streams), sampled)] {
		left, expires, err := client.Expiry(ctx, stream)
		if errors.Is(err, redisstream.ErrPermission) {
			return // nothing that Reservoir needs
		}
		if e.failed("expiry", err, "") {
			return
		}
		if expires {
			if len(expiring) == 0 || left < soonest {
				soonest = left
			}
			expiring = append(expiring, stream)
		}
	}
	if len(expiring) > 0 {
		e.warn("expiry", "run PERSIST on them, and trim with archive.trim instead", "%s will be deleted by Redis, the first in %s: %s",
			plural(len(expiring), "stream"), soonest.Round(time.Second), some(expiring))
	}
}

// group looks for consumers in the group that mirrors the head: it is Reservoir's own.
func (e *examination) group(ctx context.Context, client *redisstream.Client, streams []string) {
	name := e.Config.Archive.Group
	if name == "" {
		return
	}
	var made int
	var taken []string
	for _, stream := range streams[:min(len(streams), sampled)] {
		groups, err := client.Groups(ctx, stream)
		if e.failed("group "+name, err, "") {
			return
		}
		for _, g := range groups {
			if g.Name != name {
				continue
			}
			made++
			if g.Consumers > 0 || g.Pending > 0 {
				taken = append(taken, stream)
			}
		}
	}
	if len(taken) > 0 {
		e.fail("group "+name, "set archive.group to a name that no consumer uses: Reservoir moves its position",
			"has consumers of its own in %s", some(taken))
		return
	}
	e.ok("group "+name, "in %d of %s; it is made where it is missing", made, plural(min(len(streams), sampled), "stream"))
}

// some names the first few.
func some(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
