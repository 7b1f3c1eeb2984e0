package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
)

// Names of the fields that a replayed entry ends with, unless the option
// provenance is off.
const (
	FieldReplay = "reservoir_replay" // the job's ID
	FieldStream = "reservoir_stream" // the stream that it was archived from
	FieldID     = "reservoir_id"     // its ID there
)

// RedisOptions are what sinks of type "redis" work with.
type RedisOptions struct {
	// Default is the Redis that the archived streams live in, and the target of
	// replays that name no other; nil: there is none. It stays the caller's.
	Default *redisstream.Client
	// Connect connects to another Redis by its URL; default redisstream.Connect
	// with the URL only.
	Connect func(ctx context.Context, url string) (*redisstream.Client, error)
	// AllowHosts are the hosts of other Redises that may be written to.
	AllowHosts Hosts
	// Environ has the secrets that options name.
	Environ Environ
	// Archived tells whether a stream of Default is archived, so that a replay
	// into it is warned about; nil: none is.
	Archived func(stream string) bool
}

// NewRedis returns the kind "redis": it adds the events to Redis streams,
// exactly once.
//
// Each batch is one transaction with a checkpoint, which lies in the target
// Redis in keys "reservoir:replay:…", and expires a week after the replay has
// ended. Before that it does not: a replay may be paused for long, and a Redis
// that evicts keys with an expiry would lose its place. What an append-only file or a
// failover loses, it loses of both alike, so that a replay goes on where the
// target then is; without persistence a target that starts again is empty, and
// the replay starts again. Where only the checkpoint is lost, because it was
// evicted or deleted, the replay is paused: to begin anew would write twice.
//
// In a cluster each slot that is written has its own checkpoint and
// transactions.
func NewRedis(opts RedisOptions) replay.SinkKind {
	if opts.Connect == nil {
		opts.Connect = func(ctx context.Context, url string) (*redisstream.Client, error) {
			return redisstream.Connect(ctx, redisstream.Config{URL: url})
		}
	}
	return &redisKind{opts}
}

type redisKind struct{ opts RedisOptions }

// redisSpec are the options of one sink.
type redisSpec struct {
	// Stream is the name of the target stream, with {stream} for the name of
	// the stream that an event comes from; default "{stream}".
	Stream string `json:"stream,omitempty"`
	// URL is another Redis than the default one.
	URL string `json:"url,omitempty"`
	// IDs is "new", or "keep" to restore streams.
	IDs string `json:"ids,omitempty"`
	// Provenance adds the fields FieldReplay and so on; on by default unless IDs
	// are kept.
	Provenance onOff `json:"provenance,omitempty"`
	// AllowSource lets a replay write to a stream that it reads.
	AllowSource bool `json:"allow_source,omitempty"`
}

const (
	newIDs      = "new"
	keepIDs     = "keep"
	placeholder = "{stream}"
)

// onOff is a bool that may be left open, "".
type onOff string

// UnmarshalText reads a bool.
func (o *onOff) UnmarshalText(text []byte) error {
	b, err := strconv.ParseBool(string(text))
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", text)
	}
	*o = onOff(strconv.FormatBool(b))
	return nil
}

// UnmarshalJSON reads a bool.
func (o *onOff) UnmarshalJSON(text []byte) error { return o.UnmarshalText(text) }

// MarshalJSON gives a bool.
func (o onOff) MarshalJSON() ([]byte, error) { return []byte(o), nil }

// Type implements replay.SinkKind.
func (k *redisKind) Type() string { return "redis" }

// Parse implements replay.SinkKind. The target is a template of stream names or
// the URL of a Redis.
func (k *redisKind) Parse(target string, options map[string]string) (json.RawMessage, error) {
	var spec redisSpec
	if strings.Contains(target, "://") {
		spec.URL = target
	} else {
		spec.Stream = target
	}
	return parseOptions(k.Type(), spec, options)
}

// spec reads and checks the options, and fills in defaults.
func (k *redisKind) spec(raw json.RawMessage) (redisSpec, error) {
	spec, err := decodeOptions[redisSpec](k.Type(), raw)
	if err != nil {
		return spec, err
	}
	if spec.Stream == "" {
		spec.Stream = placeholder
	}
	if err := oneOf("ids", &spec.IDs, newIDs, keepIDs); err != nil {
		return spec, fmt.Errorf("options of sink redis: %w", err)
	}
	if spec.IDs == keepIDs && spec.Provenance == "true" {
		return spec, remedy.Wrapf(errors.New("options of sink redis: provenance with ids keep: a restored entry is as it was"), "Leave out provenance, or choose ids new.")
	}
	if spec.Provenance == "" && spec.IDs == newIDs {
		spec.Provenance = "true"
	}
	if spec.URL == "" && k.opts.Default == nil {
		return spec, remedy.Wrapf(errors.New("options of sink redis: no url, and no Redis is configured"), "Give the option url, or configure redis.url.")
	}
	return spec, nil
}

// target gives the name of the stream that events of a stream go to.
func (s redisSpec) target(stream string) string {
	return strings.ReplaceAll(s.Stream, placeholder, stream)
}

// staged reports whether streams are restored under other names, and get theirs
// when they are whole: nobody, least of all the archiver, takes a part of a stream
// for what became of it. A restore that has no end, or that waits for readers,
// cannot be.
func (s redisSpec) staged(o replay.Opening) bool {
	return s.IDs == keepIDs && !o.Follow && o.Group == ""
}

// reach connects to the target, if it is allowed. release ends what it began.
func (k *redisKind) reach(ctx context.Context, spec redisSpec) (client *redisstream.Client, release func() error, err error) {
	if spec.URL == "" {
		return k.opts.Default, func() error { return nil }, nil
	}
	url, err := k.opts.Environ.Expand(spec.URL)
	if err != nil {
		return nil, nil, fmt.Errorf("option url of sink redis: %w", err)
	}
	addrs, err := redisstream.Config{URL: url}.Hosts()
	if err != nil {
		return nil, nil, fmt.Errorf("option url of sink redis: %w", err)
	}
	for _, addr := range addrs {
		if err := k.opts.AllowHosts.Check(addr); err != nil {
			return nil, nil, fmt.Errorf("option url of sink redis: %w", err)
		}
	}
	client, err = k.opts.Connect(ctx, url)
	if err != nil {
		return nil, nil, redisError(fmt.Errorf("target: %w", err))
	}
	return client, client.Close, nil
}

// keepFence is how long a checkpoint stays after its replay has ended. A worker
// that slept through all of it must not find the key gone, and begin anew.
const keepFence = 7 * 24 * time.Hour

// Clean implements replay.SinkKind: checkpoints expire later on.
func (k *redisKind) Clean(ctx context.Context, o replay.Opening) (err error) {
	spec, err := k.spec(o.Options)
	if err != nil {
		return err
	}
	client, release, err := k.reach(ctx, spec)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	lanes, _, err := lanesOf(spec, o, client.Clustered())
	if err != nil {
		return err
	}
	for i := range lanes {
		fence := redisstream.FenceOptions{Key: lanes[i].key, Epoch: o.Epoch}
		if spec.staged(o) {
			if err := dropStaged(ctx, client, fence, &lanes[i]); err != nil {
				return redisError(err)
			}
		}
		if err := client.EndFence(ctx, fence, keepFence); err != nil {
			return redisError(err)
		}
	}
	return nil
}

// redisError marks an error with what the replay decides on, and what people
// can do.
func redisError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redisstream.ErrFenced):
		return fmt.Errorf("%w: %w", replay.ErrFenced, err)
	case isPartial(err):
		return remedy.Wrap(err, "Look at the target stream before the replay is resumed.")
	case errors.Is(err, redisstream.ErrUnreachable), errors.Is(err, redisstream.ErrLoading), errors.Is(err, redisstream.ErrReadOnly), errors.Is(err, redisstream.ErrNotNow):
		return fmt.Errorf("%w: %w", replay.ErrUnavailable, err)
	case errors.Is(err, redisstream.ErrAuth):
		return remedy.Wrap(err, "Correct the user and the password of the target.")
	case errors.Is(err, redisstream.ErrPermission):
		return remedy.Wrap(err, "Let the user run WATCH, MULTI, EXEC, DISCARD, HGETALL, HGET, HSET, PEXPIRE, TYPE, XADD, XLEN, XINFO and, to restore streams, XSETID, XGROUP, RENAME, RENAMENX and UNLINK, on the target streams and on keys reservoir:*.")
	case errors.Is(err, redisstream.ErrNotStream):
		return remedy.Wrap(err, "Choose other target streams, or remove the key.")
	case errors.Is(err, redisstream.ErrForeign) && remedy.Of(err) == "":
		return remedy.Wrap(err, "Restore into a stream that nobody adds to, and let producers begin when the replay has ended.")
	case errors.Is(err, redisstream.ErrCheckpointLost):
		return remedy.Wrap(fmt.Errorf("%w: %w", replay.ErrRecordLost, err),
			"Use a Redis that does not evict keys (maxmemory-policy noeviction). Cancel the replay, and create a new one from the last event that the target has; or delete the target streams and resume it, to begin anew.")
	}
	return err
}

func isPartial(err error) bool {
	_, ok := errors.AsType[*redisstream.PartialError](err)
	return ok
}
