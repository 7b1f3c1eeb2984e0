package redisstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/event"
)

// What callers decide on. Every error of this package that has one of these
// causes wraps it.
var (
	// ErrUnreachable: no connection could be made, or it broke, or the server
	// stayed silent for too long.
	ErrUnreachable = errors.New("redis cannot be reached")
	// ErrAuth: the user or the password is wrong or missing.
	ErrAuth = errors.New("redis refused the user or the password")
	// ErrPermission: the ACL user may not do this; see PermissionError.
	ErrPermission = errors.New("redis user lacks a permission")
	// ErrLoading: the server is still loading its data; try again.
	ErrLoading = errors.New("redis is loading its data")
	// ErrReadOnly: the server is a replica and takes no writes.
	ErrReadOnly = errors.New("redis server is a read-only replica")
	// ErrTooOld: the server is older than Redis 7.0.
	ErrTooOld = errors.New("redis is older than 7.0")
	// ErrNotCluster: the server is not part of a cluster, as the configuration says.
	ErrNotCluster = errors.New("redis server is not in cluster mode")
	// ErrNotStream: the key holds something else than a stream.
	ErrNotStream = errors.New("key is not a stream")
	// ErrNoStream: the key does not exist.
	ErrNoStream = errors.New("stream does not exist")
	// ErrTooLarge: an entry is over the limit; see TooLargeError.
	ErrTooLarge = errors.New("entry is too large")
	// ErrIDTooLow: an entry's ID is not above the stream's last one; see IDTooLowError.
	ErrIDTooLow = errors.New("ID is not above the stream's last ID")
	// ErrProtocol: the server sent what is not RESP or not what was asked for.
	ErrProtocol = errors.New("unexpected reply from redis")
)

// PermissionError says what the ACL user may not do. It is an ErrPermission.
type PermissionError struct {
	Command string // such as "xinfo|stream"; empty when it is the key that is denied
	Reply   string // the server's words
}

func (e *PermissionError) Error() string {
	if e.Command == "" {
		return fmt.Sprintf("%v on the key: %s", ErrPermission, e.Reply)
	}
	return fmt.Sprintf("%v to run %s: %s", ErrPermission, strings.ToUpper(e.Command), e.Reply)
}

// Is makes errors.Is(err, ErrPermission) hold.
func (e *PermissionError) Is(target error) bool { return target == ErrPermission }

// TooLargeError names an entry that is over the limit. It is an ErrTooLarge.
type TooLargeError struct {
	ID    event.ID
	Field string // the field with which the entry went over the limit, shortened
	Size  int64  // of the entry up to and with that field
	Limit int64
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("entry %s has %d bytes or more with field %q: the limit is %d", e.ID, e.Size, e.Field, e.Limit)
}

// Is makes errors.Is(err, ErrTooLarge) hold.
func (e *TooLargeError) Is(target error) bool { return target == ErrTooLarge }

// replyError is an error reply, without its leading "-".
type replyError string

func (e replyError) Error() string { return string(e) }

// code is the first word, such as "MOVED".
func (e replyError) code() string {
	code, _, _ := strings.Cut(string(e), " ")
	return code
}

// asReply gives the error reply in err, whether it came from go-redis or not.
func asReply(err error) (replyError, bool) {
	if own, ok := errors.AsType[replyError](err); ok {
		return own, true
	}
	if other, ok := errors.AsType[redis.Error](err); ok && !errors.Is(err, redis.Nil) {
		return replyError(other.Error()), true
	}
	return "", false
}

// isReply reports whether err is an answer of the server.
func isReply(err error) bool {
	reply, _ := asReply(err)
	return reply != ""
}

// classify joins err with the cause that callers can decide on.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if reply, ok := asReply(err); ok {
		return classifyReply(err, reply)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnreachable) {
		return err
	}
	var network net.Error
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &network) || errors.As(err, &certificate) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}

func classifyReply(err error, reply replyError) error {
	switch reply.code() {
	case "WRONGPASS", "NOAUTH":
		return fmt.Errorf("%w: %w", ErrAuth, err)
	case "NOPERM":
		return &PermissionError{Command: deniedCommand(string(reply)), Reply: string(reply)}
	case "LOADING":
		return fmt.Errorf("%w: %w", ErrLoading, err)
	case "READONLY":
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case "WRONGTYPE":
		return fmt.Errorf("%w: %w", ErrNotStream, err)
	}
	switch {
	case strings.Contains(string(reply), "no such key"), strings.Contains(string(reply), "requires the key to exist"):
		return fmt.Errorf("%w: %w", ErrNoStream, err)
	case strings.Contains(string(reply), "cluster support disabled"):
		return fmt.Errorf("%w: %w", ErrNotCluster, err)
	case strings.Contains(string(reply), "without any password configured"), strings.Contains(string(reply), "invalid password"):
		return fmt.Errorf("%w: %w", ErrAuth, err)
	}
	return err
}

// deniedCommand finds the command in Redis's words: "… to run the 'xinfo|stream' command".
func deniedCommand(reply string) string {
	_, rest, found := strings.Cut(reply, "run the '")
	if !found {
		return ""
	}
	command, _, _ := strings.Cut(rest, "'")
	return command
}

// redirection is where a cluster node says that a slot is.
type redirection struct {
	addr string
	ask  bool // for this one request only
}

// parseRedirection reads "MOVED 3999 host:port" and "ASK 3999 host:port".
func parseRedirection(err error) (redirection, bool) {
	reply, ok := asReply(err)
	if !ok {
		return redirection{}, false
	}
	words := strings.Fields(string(reply))
	if len(words) < 3 || words[0] != "MOVED" && words[0] != "ASK" {
		return redirection{}, false
	}
	return redirection{addr: words[2], ask: words[0] == "ASK"}, true
}
