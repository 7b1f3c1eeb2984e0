package app

import (
	"context"
	"iter"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/replay"
)

// backend is what the commands of jobs work with: the bucket itself, or a server. Both
// give the same, and errors that wrap the same ones of the packages below. A backend is
// used by one command, which closes it.
type backend interface {
	jobBackend
	replayBackend
	letterBackend
	rebuildBackend
	close() error
}

// jobBackend reads and changes jobs of any kind.
type jobBackend interface {
	get(ctx context.Context, id string) (*jobs.Job, error)
	list(ctx context.Context, q jobs.Query) iter.Seq2[*jobs.Job, error]
	// watch gives the job as it is, and then as it changes, until it has ended.
	watch(ctx context.Context, id string) iter.Seq2[*jobs.Job, error]
	change(ctx context.Context, how verb, id, reason string) (*jobs.Job, error)
}

// replayBackend makes replays, and looks at them.
type replayBackend interface {
	parseTarget(target string, options map[string]string) (replay.SinkSpec, error)
	createReplay(ctx context.Context, spec replay.Spec, opts replay.CreateOptions) (*jobs.Job, error)
	estimateReplay(ctx context.Context, spec replay.Spec, opts replay.EstimateOptions) (*replay.Estimate, error)
	plan(ctx context.Context, id string) (*replay.Frozen, error)
}

// letterBackend deals with what replays have set aside.
type letterBackend interface {
	letters(ctx context.Context, id, after string) iter.Seq2[*replay.DeadLetter, error]
	letter(ctx context.Context, id, key string) (*replay.DeadLetter, error)
	retryLetters(ctx context.Context, id string, keys []string, opts replay.CreateOptions) (*jobs.Job, error)
	purgeLetters(ctx context.Context, id string, keys []string) (int, error)
}

// rebuildBackend makes rebuilds, and looks at them.
type rebuildBackend interface {
	createRebuild(ctx context.Context, spec rebuild.Spec, opts rebuild.CreateOptions) (*jobs.Job, error)
	// verification is nil as long as the rebuild has not come to it.
	verification(ctx context.Context, id string) (*rebuild.Verification, error)
	rollBack(ctx context.Context, name string, opts rebuild.RollbackOptions) (*rolledBack, error)
}

// verb is how people change a job.
type verb string

// The verbs; each is a command too.
const (
	pauseJob   verb = "pause"
	resumeJob  verb = "resume"
	cancelJob  verb = "cancel"
	retryJob   verb = "retry"
	approveJob verb = "approve"
)

// rolledBack is what a projection is after a rollback, as it is printed.
type rolledBack struct {
	Name string `json:"name"`
	Live struct {
		Generation uint64    `json:"generation"`
		LiveAt     time.Time `json:"live_at,omitzero"`
	} `json:"live"`
}

// openBackend opens what the configuration names: a server, or else of the bucket what
// spec says. Its caller closes it.
func (a *app) openBackend(ctx context.Context, spec servicesSpec) (backend, error) {
	if !a.cfg.Client.URL.IsZero() {
		return a.openRemote()
	}
	return a.openBucket(ctx, spec)
}
