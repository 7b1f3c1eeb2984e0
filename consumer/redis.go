package consumer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// RedisStore is a Store in Redis: handlers append commands to a transaction
// (MULTI/EXEC), in which the consumer's position changes too.
//
// Redis does not roll back: when a command fails while the transaction is executed,
// because the key holds something else for instance, the others have their effect
// all the same. The event is put among the dead letters then, with the error.
//
// What is written is as durable as Redis is configured to keep it. With
// appendfsync everysec a crash of the server may take back the last second of
// handled events, effects and position together.
type RedisStore struct {
	client redis.UniversalClient
	prefix string
}

// Redis returns the Store in Redis. Its keys begin with prefix; "" is
// "{reservoir}:consumer". In a cluster the prefix needs a hash tag, "{…}", and all
// keys that handlers write to need the same one. The caller closes client, after the
// consumers have ended.
func Redis(client redis.UniversalClient, prefix string) *RedisStore {
	if prefix == "" {
		prefix = "{reservoir}:consumer"
	}
	return &RedisStore{client: client, prefix: prefix}
}

func (s *RedisStore) key(parts ...string) string { return s.prefix + ":" + strings.Join(parts, ":") }

func (s *RedisStore) leaseKey(p place) string { return s.key(p.consumer, "lease", p.stream) }

func (s *RedisStore) atKey(p place) string { return s.key(p.consumer, "at", p.stream) }

func (s *RedisStore) memberKey(consumer string) string { return s.key(consumer, "members") }

func (s *RedisStore) seenKey(consumer, key string) string {
	return s.key(consumer, "seen", shortKey(key))
}

// DeadLetterStream is the stream that holds a consumer's dead letters: the fields of
// the event, after them reservoir_dead_stream, _id, _type, _key, _attempts and
// _error.
func (s *RedisStore) DeadLetterStream(consumer string) string { return s.key(consumer, "dead") }

func (s *RedisStore) check(ctx context.Context) error {
	if _, cluster := s.client.(*redis.ClusterClient); cluster {
		if open := strings.IndexByte(s.prefix, '{'); open < 0 || strings.IndexByte(s.prefix[open:], '}') < 2 {
			return remedy.Wrapf(fmt.Errorf("prefix %q has no hash tag", s.prefix), "In a cluster all keys of a transaction must share a slot: give Redis a prefix such as \"{shop}:consumer\".")
		}
	}
	if err := s.client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("reach the consumer's redis: %w", err)
	}
	return nil
}

// The scripts take the lease's key, if they need it, and the checkpoint's.
const (
	redisAcquire = `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {tostring(redis.call('HINCRBY', KEYS[2], 'epoch', 1))}`
	redisRenew = `
if redis.call('HGET', KEYS[2], 'epoch') ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return 1`
	redisRelease = `
if redis.call('HGET', KEYS[2], 'epoch') ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
return 1`
	redisFail = `
if redis.call('HGET', KEYS[2], 'epoch') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], 'failed_id', ARGV[3], 'failed_attempts', ARGV[4], 'failed_error', ARGV[5])
return 1`
	redisJoin = `
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return redis.call('ZCARD', KEYS[1])`
)

func (s *RedisStore) join(ctx context.Context, consumer, owner string, ttl time.Duration) (int, error) {
	n, err := s.client.Eval(ctx, redisJoin, []string{s.memberKey(consumer)}, owner, ttl.Milliseconds()).Int()
	if err != nil {
		return 0, fmt.Errorf("join consumer %q: %w", consumer, err)
	}
	return n, nil
}

func (s *RedisStore) leave(ctx context.Context, consumer, owner string) error {
	if err := s.client.ZRem(ctx, s.memberKey(consumer), owner).Err(); err != nil {
		return fmt.Errorf("leave consumer %q: %w", consumer, err)
	}
	return nil
}

func (s *RedisStore) acquire(ctx context.Context, p place, owner string, ttl time.Duration) (lease, checkpoint, bool, error) {
	got, err := s.client.Eval(ctx, redisAcquire, []string{s.leaseKey(p), s.atKey(p)}, owner, ttl.Milliseconds()).StringSlice()
	if err == nil && len(got) == 0 {
		return lease{}, checkpoint{}, false, nil
	}
	l := lease{place: p, owner: owner, ttl: ttl}
	if err == nil {
		l.epoch, err = strconv.ParseInt(got[0], 10, 64)
	}
	var at checkpoint
	if err == nil {
		at, err = s.load(ctx, l)
	}
	if errors.Is(err, ErrFenced) {
		return lease{}, checkpoint{}, false, nil
	}
	if err != nil {
		return lease{}, checkpoint{}, false, fmt.Errorf("take the lease of stream %q: %w", p.stream, err)
	}
	return l, at, true, nil
}

func (s *RedisStore) load(ctx context.Context, l lease) (at checkpoint, err error) {
	got, err := s.client.HGetAll(ctx, s.atKey(l.place)).Result()
	if err == nil && got["epoch"] != strconv.FormatInt(l.epoch, 10) {
		err = ErrFenced
	}
	if err == nil {
		at.set, at.position, at.failed.id, err = parsePlaces(got["position"], got["failed_id"])
	}
	if err == nil && at.set {
		at.added, err = strconv.ParseInt(got["added"], 10, 64)
	}
	if err == nil && !at.failed.id.IsZero() {
		at.failed.attempts, err = strconv.Atoi(got["failed_attempts"])
		at.failed.text = got["failed_error"]
	}
	if err != nil {
		return checkpoint{}, fmt.Errorf("read the checkpoint of stream %q: %w", l.stream, err)
	}
	return at, nil
}

// fenced runs a script that looks at the epoch.
func (s *RedisStore) fenced(ctx context.Context, what, script string, l lease, args ...any) error {
	args = append([]any{l.owner, l.epoch}, args...)
	done, err := s.client.Eval(ctx, script, []string{s.leaseKey(l.place), s.atKey(l.place)}, args...).Int()
	if err == nil && done == 0 {
		err = ErrFenced
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (s *RedisStore) renew(ctx context.Context, l lease, ttl time.Duration) error {
	return s.fenced(ctx, "renew the lease", redisRenew, l, ttl.Milliseconds())
}

func (s *RedisStore) release(ctx context.Context, l lease) error {
	return s.fenced(ctx, "release the lease", redisRelease, l)
}

func (s *RedisStore) fail(ctx context.Context, l lease, f failure) error {
	return s.fenced(ctx, "record a failed attempt", redisFail, l, f.id.String(), f.attempts, f.text)
}

func (s *RedisStore) seek(ctx context.Context, p place, at checkpoint) error {
	_, err := s.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.HIncrBy(ctx, s.atKey(p), "epoch", 1)
		setCheckpoint(ctx, pipe, s.atKey(p), at)
		pipe.Del(ctx, s.leaseKey(p))
		return nil
	})
	if err != nil {
		return fmt.Errorf("set the position: %w", err)
	}
	return nil
}

// setCheckpoint returns a command whose success says that the transaction was executed.
func setCheckpoint(ctx context.Context, pipe redis.Pipeliner, key string, at checkpoint) redis.Cmder {
	pipe.HDel(ctx, key, "failed_id", "failed_attempts", "failed_error")
	return pipe.HSet(ctx, key, "position", at.position.String(), "added", at.added)
}

func (s *RedisStore) seen(ctx context.Context, consumer string, keys []string) ([]bool, error) {
	there := make([]*redis.IntCmd, len(keys))
	_, err := s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, key := range keys {
			there[i] = pipe.Exists(ctx, s.seenKey(consumer, key))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for the events' keys: %w", err)
	}
	seen := make([]bool, len(keys))
	for i := range seen {
		seen[i] = there[i].Val() > 0
	}
	return seen, nil
}

// prune has nothing to do: keys of events expire.
func (s *RedisStore) prune(context.Context, string, time.Duration) error { return nil }

func (s *RedisStore) begin(ctx context.Context, l lease) (transaction[redis.Pipeliner], error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &redisTransaction{store: s, lease: l}, nil
}
