package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/redisstream"
)

// remedies says what to do about the errors of the packages below, which know
// what went wrong but not how their user configures them. The first that
// matches counts.
var remedies = [...]struct {
	is   error
	what string
}{
	{redisstream.ErrAuth, "set redis.username and redis.password (or redis.password_file) to an ACL user of this Redis"},
	{redisstream.ErrTooOld, "upgrade Redis to 7.0 or newer: older ones do not count the entries ever added to a stream"},
	{redisstream.ErrLoading, "wait until Redis has loaded its data, then try again"},
	{redisstream.ErrReadOnly, "point redis.url at the master, or name the sentinels with redis.mode: sentinel"},
	{redisstream.ErrNotStream, "name only streams in streams.include, or exclude this key with streams.exclude"},
	{redisstream.ErrNoStream, "check the name; `reservoir streams` lists what there is"},
	{redisstream.ErrTooLarge, "raise archive.max_entry_size, or delete the entry with XDEL if it is a mistake"},
	{redisstream.ErrUnreachable, "check that Redis runs at redis.url, and that no firewall is between"},
	{redisstream.ErrProtocol, "check that redis.url names a Redis server, and whether it wants TLS (rediss://)"},
	{chstore.ErrUnreachable, "check that ClickHouse runs at clickhouse.url, and that no firewall is between"},
	{chstore.ErrDenied, "set clickhouse.username and clickhouse.password (or clickhouse.password_file) to a user who may do this"},
	{chstore.ErrDiskFull, "free some space on the disk of ClickHouse, then try again"},
	{chstore.ErrResources, "give ClickHouse more memory or time, or try again when it has less to do"},
	{objectstore.ErrPrecondition, "another process wrote the same object: try again"},
	{archive.ErrDamaged, "run `reservoir verify` to see all that is damaged, and restore those objects from a copy of the bucket"},
	{archive.ErrSegmentGone, "start again: the segment was merged or expired while it was read; retention.gc_grace says how long readers have"},
	{archive.ErrConflict, "try again: another process committed to this stream at the same moment"},
	{syscall.ENOSPC, "free some space; nothing that was committed is harmed, and the next run goes on from there"},
	{syscall.EROFS, "the file system is read-only: choose another directory"},
	{fs.ErrPermission, "give this user access to it, or choose another path"},
	{context.DeadlineExceeded, "it took too long: check the network and the load of the servers, then try again"},
}

// withRemedy gives err the remedy that fits it, unless it carries one already.
func withRemedy(err error) error {
	if err == nil || remedy.Of(err) != "" {
		return err
	}
	var denied *redisstream.PermissionError
	if errors.As(err, &denied) {
		return remedy.Wrap(err, permissionRemedy(denied.Command))
	}
	for _, r := range remedies {
		if errors.Is(err, r.is) {
			return remedy.Wrap(err, r.what)
		}
	}
	return err
}

// permissionRemedy says which rule of Redis's ACL allows a command, or keys.
func permissionRemedy(command string) string {
	if command == "" {
		return "give the ACL user the streams: ACL SETUSER <user> ~<pattern>"
	}
	return fmt.Sprintf("give the ACL user the command: ACL SETUSER <user> +%s", command)
}

// remedyOf says what to do about err, or "".
func remedyOf(err error) string { return remedy.Of(withRemedy(err)) }
