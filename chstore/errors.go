package chstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// What a failed statement is: every error of this package that comes from ClickHouse
// is one of these, or none when it fits none.
var (
	// ErrUnreachable is a connection that was refused, lost or never answered. Whether
	// the statement had an effect is not known.
	ErrUnreachable = errors.New("ClickHouse cannot be reached")
	// ErrBusy is a server that has too much to do just now, or whose table was exchanged
	// under the statement. The statement had no effect; try again later.
	ErrBusy = errors.New("ClickHouse is busy")
	// ErrDenied is a missing grant, a wrong password or a read-only user.
	ErrDenied = errors.New("ClickHouse denies it")
	// ErrDefinition is a statement that the engine does not take: syntax, names or types.
	ErrDefinition = errors.New("ClickHouse does not take the statement")
	// ErrData is a statement that failed on the data: a value that cannot be parsed or cast.
	ErrData = errors.New("ClickHouse cannot use a value")
	// ErrResources is memory or time that was used up.
	ErrResources = errors.New("ClickHouse ran out of memory or time")
	// ErrDiskFull is a server without space left.
	ErrDiskFull = errors.New("disk of ClickHouse is full")
	// ErrNoTable is a table or database that does not exist.
	ErrNoTable = errors.New("table does not exist")
	// ErrExists is a table that exists already.
	ErrExists = errors.New("table exists already")
	// ErrKilled is a statement that was killed.
	ErrKilled = errors.New("statement was killed")
	// ErrSource is a file of the archive that ClickHouse cannot read where it is.
	ErrSource = errors.New("ClickHouse cannot read the archive")
	// ErrReadOnly is a table that takes no writes just now.
	ErrReadOnly = errors.New("table is read-only")
)

// Error is what the server said, without secrets.
type Error struct {
	Code    int    // of ClickHouse, 0 where there is none
	Name    string // of the code, such as UNKNOWN_TABLE, as far as it is known
	Message string // cleaned: without the version, and without what was hidden
	kind    error
}

func (e *Error) Error() string {
	if e.Code == 0 {
		return e.Message
	}
	return fmt.Sprintf("%s (code %d)", e.Message, e.Code)
}

// Unwrap gives the sentinel that the error is, or nil.
func (e *Error) Unwrap() error { return e.kind }

// Retryable reports whether the statement may succeed when it is issued again as it
// is. That does not say that it is safe to: it may have had its effect.
func Retryable(err error) bool {
	return errors.Is(err, ErrUnreachable) || errors.Is(err, ErrBusy)
}

const hidden = "[HIDDEN]"

// kinds maps codes of ClickHouse (src/Common/ErrorCodes.cpp) to sentinels.
func kindOf(code int) error {
	switch code {
	case 3, 32, 95, 96, 99, 198, 203, 209, 210, 279, 425: // network
		return ErrUnreachable
	case 202, 252, 216, 236, 439, 519, 613, 741, 745, 999, 319, 265, 159_000: // too many, keeper, exchanged
		return ErrBusy
	case 164, 192, 193, 194, 195, 291, 482, 497, 516, 471, 674:
		return ErrDenied
	case 241, 173, 159, 160, 158, 307, 396, 290, 191:
		return ErrResources
	case 243, 74, 75, 552:
		return ErrDiskFull
	case 60, 81, 218:
		return ErrNoTable
	case 57, 82:
		return ErrExists
	case 394, 734:
		return ErrKilled
	case 499, 86, 107, 79, 481, 636, 400, 76:
		return ErrSource
	case 242, 668:
		return ErrReadOnly
	case 6, 26, 27, 33, 38, 41, 69, 70, 72, 117, 130, 131, 153, 321, 349, 376, 395, 407, 441, 467, 473, 691, 436, 540, 675, 676:
		return ErrData
	case 7, 8, 9, 10, 15, 16, 20, 34, 35, 36, 39, 42, 43, 44, 46, 47, 48, 49, 50, 51, 52, 53, 59, 62, 63, 80, 115, 119, 120, 122, 134, 179, 182, 184,
		206, 207, 215, 258, 352, 359, 386, 403, 455, 456, 457, 549, 577, 590, 700:
		return ErrDefinition
	}
	return nil
}

var (
	versionNote = regexp.MustCompile(`\s*\(version [^)]*\)`)
	prefixNote  = regexp.MustCompile(`^(Code: \d+\. )?(DB::Exception: )?`)
	nameNote    = regexp.MustCompile(`\s*\(([A-Z][A-Z0-9_]+)\)\s*$`)
)

// failed says what was being done and makes the error of the server one of ours. It
// returns nil for nil, and the error of a context as it is.
func (s *Store) failed(doing string, err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, classify(err, append(secrets, s.config.Password)))
}

func classify(err error, secrets []string) error {
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var ex *clickhouse.Exception
	if errors.As(err, &ex) {
		return exception(int(ex.Code), ex.Message, secrets)
	}
	var network net.Error
	var op *net.OpError
	if errors.As(err, &network) || errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, clickhouse.ErrAcquireConnTimeout) || isLost(err.Error()) {
		return &Error{Message: redact(err.Error(), secrets), kind: ErrUnreachable}
	}
	return &Error{Message: redact(err.Error(), secrets)}
}

// isLost knows the errors of a lost connection that the client makes without a type.
func isLost(text string) bool {
	for _, part := range []string{"broken pipe", "connection reset", "connection refused", "unexpected packet", "EOF", "driver: bad connection"} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

func exception(code int, message string, secrets []string) error {
	e := &Error{Code: code, Message: message, kind: kindOf(code)}
	e.Message = versionNote.ReplaceAllString(e.Message, "")
	e.Message, _, _ = strings.Cut(e.Message, "Stack trace:")
	e.Message = prefixNote.ReplaceAllString(e.Message, "")
	if m := nameNote.FindStringSubmatch(e.Message); m != nil {
		e.Name, e.Message = m[1], nameNote.ReplaceAllString(e.Message, "")
	}
	e.Message = strings.TrimSuffix(strings.TrimSpace(redact(e.Message, secrets)), ".")
	if strings.Contains(e.Message, "No space left on device") {
		e.kind = ErrDiskFull
	}
	if code == 32 && strings.Contains(e.Message, "Cannot parse") { // a text that is too short, and no connection
		e.kind = ErrData
	}
	if code == throwIfCode {
		e.fenced()
	}
	return remedied(e)
}

func redact(text string, secrets []string) string {
	for _, secret := range secrets {
		if len(secret) > 2 {
			text = strings.ReplaceAll(text, secret, hidden)
		}
	}
	return text
}

var grantNote = regexp.MustCompile(`(?:grant|privileges?) ([A-Z][A-Za-z0-9_(), ]*?(?: ON [^ ]+)?)(?: WITH GRANT OPTION)?$`)

func remedied(e *Error) error {
	switch {
	case errors.Is(e, ErrDenied) && e.Code == 497:
		if m := grantNote.FindStringSubmatch(e.Message); m != nil {
			return remedy.Wrapf(e, "Ask an administrator of ClickHouse for: GRANT %s TO the user that Reservoir connects as.", m[1])
		}
	case errors.Is(e, ErrDenied) && e.Code == 516:
		return remedy.Wrap(e, "Check the user and the password in the configuration of ClickHouse.")
	case errors.Is(e, ErrDenied):
		return remedy.Wrap(e, "Connect as a user whose profile is not read-only.")
	case errors.Is(e, ErrDiskFull):
		return remedy.Wrap(e, "Free space on the server of ClickHouse, or drop generations that are no longer needed, then go on.")
	case e.Code == 241:
		return remedy.Wrap(e, "Load fewer chunks at once (--concurrency), or give the user of Reservoir more memory (max_memory_usage).")
	case e.Code == 252:
		return remedy.Wrap(e, "Wait until parts are merged; if it comes again, give the table fewer partitions.")
	case errors.Is(e, ErrSource):
		return remedy.Wrap(e, "Check that the server of ClickHouse reaches the object store, and that the credentials may read it.")
	}
	return e
}
