package sink

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
)

// checkChunk bounds the streams that are asked about at once.
const checkChunk = 500

// Check implements replay.SinkKind.
func (k *redisKind) Check(ctx context.Context, o replay.Opening) (target replay.Target, err error) {
	spec, err := k.spec(o.Options)
	if err != nil {
		return replay.Target{}, err
	}
	if o.Replay == "" {
		o.Replay = "check"
	}
	if err := noPassword("url", spec.URL); err != nil {
		return replay.Target{}, fmt.Errorf("options of sink redis: %w", err)
	}
	client, release, err := k.reach(ctx, spec)
	if err != nil {
		return replay.Target{}, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := k.notSource(ctx, spec, o, client); err != nil {
		return replay.Target{}, err
	}
	if err := oneToOne(spec, o); err != nil {
		return replay.Target{}, err
	}
	lanes, _, err := lanesOf(spec, o, client.Clustered())
	if err != nil {
		return replay.Target{}, err
	}
	for i := range lanes {
		if err := checkLane(ctx, client, spec, o, &lanes[i]); err != nil {
			return replay.Target{}, redisError(err)
		}
	}
	warnings, err := redisWarnings(ctx, client)
	if err != nil {
		return replay.Target{}, redisError(err)
	}
	again, err := k.archivedAgain(ctx, spec, o, client)
	if err != nil {
		return replay.Target{}, redisError(err)
	}
	warnings = append(warnings, again...)
	if spec.IDs == keepIDs && !o.Whole {
		warnings = append(warnings, "the streams are restored in part: their last-generated-id and entries-added will be those of what was replayed")
	}
	if spec.staged(o) && o.MaxLength > 0 {
		warnings = append(warnings, "streams are restored beside their place, where nobody trims them: where one has more entries than max_length, the replay holds for good")
	}
	return replay.Target{
		Key:         client.Place() + "#" + spec.Stream,
		Description: fmt.Sprintf("streams %s on %s", spec.Stream, client.Place()),
		Guarantee:   replay.ExactlyOnce,
		Warnings:    warnings,
		Restores:    spec.IDs == keepIDs,
	}, nil
}

// archivedAgain warns of a target that the archiver takes. A stream that comes back
// as it was is the one that is archived.
func (k *redisKind) archivedAgain(ctx context.Context, spec redisSpec, o replay.Opening, client *redisstream.Client) ([]string, error) {
	if k.opts.Archived == nil || k.opts.Default == nil {
		return nil, nil
	}
	for _, s := range o.Streams {
		target := spec.target(s.Stream)
		if !k.opts.Archived(target) || target == s.Stream && spec.staged(o) {
			continue
		}
		same, err := client.SamePlace(ctx, k.opts.Default)
		if err != nil || !same {
			return nil, err
		}
		return []string{fmt.Sprintf("the target %q is a stream that the archiver takes (streams.include): what is replayed is archived again, unless streams.exclude names it", target)}, nil
	}
	return nil, nil
}

// notSource refuses a replay that would write to a stream that it reads.
func (k *redisKind) notSource(ctx context.Context, spec redisSpec, o replay.Opening, client *redisstream.Client) error {
	target, among := sourceAmong(spec, o)
	switch piecemeal := spec.IDs == keepIDs && !spec.staged(o); {
	case !among, spec.AllowSource && !piecemeal:
		return nil
	case k.opts.Default == nil && !spec.AllowSource:
		return remedy.Wrapf(fmt.Errorf("the target %q has the name of a stream that is replayed, and no Redis is configured, or it does not answer: nobody can tell whether it is that stream", target),
			"Let the Redis of redis.url answer; give the option stream, such as %q; or allow_source if the target is another Redis.", placeholder+":replay")
	case k.opts.Default == nil:
		return nil
	}
	same, err := client.SamePlace(ctx, k.opts.Default)
	switch {
	case err != nil:
		return redisError(err)
	case !same:
		return nil
	case spec.AllowSource:
		return remedy.Wrapf(fmt.Errorf("stream %q would be restored in its own place while others read it: a replay that follows, or that looks at a consumer group, puts in one entry after the other", target),
			"Restore without follow and without a group: the stream is there when it is whole.")
	}
	return remedy.Wrapf(fmt.Errorf("the target %q is a stream that is replayed: its consumers would get the events among new ones, and the archive would hold them twice", target),
		"Give the option stream, such as %q, or allow_source if that is what you want.", placeholder+":replay")
}

// sourceAmong gives the first target that has the name of a stream which is
// replayed, and whether there is one.
func sourceAmong(spec redisSpec, o replay.Opening) (string, bool) {
	sources := make(map[string]struct{}, len(o.Streams))
	for _, s := range o.Streams {
		sources[s.Stream] = struct{}{}
	}
	for _, s := range o.Streams {
		target := spec.target(s.Stream)
		if _, same := sources[target]; same {
			return target, true
		}
	}
	return "", false
}

// oneToOne refuses to restore two streams as one.
func oneToOne(spec redisSpec, o replay.Opening) error {
	if spec.IDs != keepIDs {
		return nil
	}
	sources := make(map[string]string, len(o.Streams))
	for _, s := range o.Streams {
		target := spec.target(s.Stream)
		if other, taken := sources[target]; taken {
			return remedy.Wrapf(fmt.Errorf("streams %q and %q would both be restored as %q", other, s.Stream, target),
				"Use %s in the option stream, or ids new.", placeholder)
		}
		sources[target] = s.Stream
	}
	return nil
}

func checkLane(ctx context.Context, client *redisstream.Client, spec redisSpec, o replay.Opening, l *lane) error {
	for from := 0; from < len(l.targets); from += checkChunk {
		to := min(from+checkChunk, len(l.targets))
		names := l.names[from:to]
		fence := redisstream.FenceOptions{Key: l.key, KeepIDs: spec.IDs == keepIDs}
		if spec.staged(o) {
			fence.Place = l.places(from, to)
		}
		if err := client.TryFence(ctx, fence, l.targets[from:to]); err != nil {
			return err
		}
		infos, err := client.Infos(ctx, names)
		if err != nil {
			return err
		}
		for _, info := range infos {
			if err := checkTarget(spec, info); err != nil {
				return err
			}
		}
		if err := checkGroup(ctx, client, o, names); err != nil {
			return err
		}
	}
	return nil
}

// checkTarget looks at what a target stream is now.
func checkTarget(spec redisSpec, info redisstream.StreamInfo) error {
	switch {
	case errors.Is(info.Err, redisstream.ErrNoStream), errors.Is(info.Err, redisstream.ErrPermission) && spec.IDs != keepIDs:
		return nil
	case info.Err != nil:
		return fmt.Errorf("target: %w", info.Err)
	case spec.IDs == keepIDs && used(info):
		return remedy.Wrapf(fmt.Errorf("stream %q exists, with %d entries and the last ID %s: IDs can be kept in a fresh stream only", info.Stream, info.Length, info.LastGeneratedID),
			"Delete the stream, choose another name by the option stream, or use ids new.")
	case info.LastGeneratedID == event.MaxID:
		return remedy.Wrapf(fmt.Errorf("stream %q has the highest ID there is: no entry can be added", info.Stream), "Choose another stream.")
	}
	return nil
}

// used reports whether entries were ever added to a stream.
func used(info redisstream.StreamInfo) bool {
	return info.Length > 0 || info.EntriesAdded > 0 || !info.LastGeneratedID.IsZero()
}

// checkGroup refuses back-pressure of a group that is not there.
func checkGroup(ctx context.Context, client *redisstream.Client, o replay.Opening, targets []string) error {
	switch bounded := o.MaxLag > 0 || o.MaxPending > 0; {
	case o.Group == "" && bounded:
		return remedy.Wrap(errors.New("back-pressure by lag or pending needs a consumer group"), "Name the group.")
	case o.Group == "":
		return nil
	}
	backlogs, err := client.Backlogs(ctx, targets, o.Group)
	if err != nil {
		return err
	}
	for i, b := range backlogs {
		if !b.Grouped {
			return noGroup(o.Group, targets[i])
		}
	}
	return nil
}

func noGroup(group, stream string) error {
	return remedy.Wrapf(fmt.Errorf("target stream %q has no consumer group %q, by which the replay should hold", stream, group),
		"Make the group first: XGROUP CREATE %s %s $ MKSTREAM", stream, group)
}

// redisWarnings says what could take the checkpoint away.
func redisWarnings(ctx context.Context, client *redisstream.Client) ([]string, error) {
	server, err := client.Server(ctx)
	if errors.Is(err, redisstream.ErrPermission) {
		return nil, nil // the user may write, and need not know
	}
	if err != nil {
		return nil, err
	}
	var warnings []string
	if strings.HasPrefix(server.Policy, "allkeys-") {
		warnings = append(warnings, "the target evicts keys when memory is short (maxmemory-policy "+server.Policy+"): an evicted checkpoint ends exactly once; noeviction is safe")
	}
	if !server.AOF {
		warnings = append(warnings, "the target has no append-only file: after a crash it may have lost what was replayed, and the replay begins again from where the target then is")
	}
	return warnings, nil
}
