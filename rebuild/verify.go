package rebuild

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
)

// verificationFile is where a job keeps its Verification, among its files.
const verificationFile = "verification.json"

// Verification is what was found of a table before the swap.
type Verification struct {
	Time time.Time `json:"time"`
	// Chunks were counted against the journal, and Events of them against the commit
	// log; Rows is what they gave.
	Chunks  int    `json:"chunks"`
	Events  uint64 `json:"events"`
	Rows    uint64 `json:"rows"`
	Carried uint64 `json:"carried,omitempty"` // rows of a scoped rebuild
	Letters uint64 `json:"dead_letters,omitempty"`
	// Checks are those of the definition.
	Checks []projection.CheckResult `json:"checks,omitempty"`
	// Difference is that from the live table; nil where there is none yet. The two are
	// not at the same position: the live one is fed meanwhile.
	Difference *chstore.Diff `json:"difference,omitempty"`
	// Dependents are the dependent tables.
	Dependents []DependentVerification `json:"dependents,omitempty"`
	Warnings   []string                `json:"warnings,omitempty"`
}

// Failed counts the checks that failed.
func (v *Verification) Failed() (n int) {
	for _, c := range v.Checks {
		if !c.Passed {
			n++
		}
	}
	return n
}

// Verification gives what was found of a rebuild's table. The error wraps
// objectstore.ErrNotFound while the rebuild has not come to that.
func (s *Service) Verification(ctx context.Context, id string) (*Verification, error) {
	return ReadVerification(ctx, s.opts.Jobs.Files(id))
}

// ReadVerification is Service.Verification for the files of a rebuild's job.
func ReadVerification(ctx context.Context, files objectstore.Reader) (*Verification, error) {
	v := &Verification{}
	if err := readFile(ctx, files, verificationFile, v); err != nil {
		return nil, fmt.Errorf("read the verification of the rebuild: %w", err)
	}
	return v, nil
}

// verify counts the chunks, runs the checks and compares with the live table.
func (b *build) verify(ctx context.Context) error {
	if err := b.unchanged(); err != nil {
		return err
	}
	v := &Verification{Time: time.Now().UTC(), Chunks: len(b.plan.Chunks), Events: b.plan.Events, Rows: b.journal.total(), Carried: b.cp.Rows, Letters: b.cp.Letters}
	if err := b.untouched(ctx); err != nil {
		return err
	}
	if err := b.asCarried(ctx); err != nil {
		return err
	}
	again, err := b.recount(ctx)
	if err != nil {
		return err
	}
	if again {
		b.cp.Phase = PhaseLoad
		if err := b.save(ctx); err != nil {
			return err
		}
		return jobs.Retry(errors.New("chunks are not as they were loaded: they are loaded again"))
	}
	for i := range b.sub.def.Checks {
		result, err := b.sub.def.Checks[i].Run(ctx, b.db, b.shadow())
		if err != nil {
			return err //nolint:wrapcheck // it names the check
		}
		v.Checks = append(v.Checks, result)
		if !result.Passed {
			b.warn("check %q failed: it gives %s, and must give %s", result.Name, result.Got, result.Expect)
		}
	}
	if err := b.compares(ctx); err != nil {
		return err
	}
	if v.Difference, err = b.difference(ctx); err != nil {
		return err
	}
	if d := v.Difference; d != nil {
		b.h.Log("info", fmt.Sprintf("difference from the live table: %d added, %d removed, %d changed, %d the same", d.Added, d.Removed, d.Changed, d.Same))
	}
	if v.Dependents, err = b.verifyDependents(ctx); err != nil {
		return err
	}
	v.Warnings = b.warnOfLetters(v.Letters)
	return putAnew(ctx, b.h.Files(), verificationFile, v)
}

// warnOfLetters warns of events that were put aside, and gives all warnings. Where nothing
// is live yet a person need not look first: nobody loses rows that were there.
func (b *build) warnOfLetters(letters uint64) []string {
	if letters == 0 {
		return b.cp.Warnings
	}
	text := fmt.Sprintf("%d events could not be used and were put aside", letters)
	if b.cp.Base != 0 {
		b.warn("%s", text)
		return b.cp.Warnings
	}
	b.h.Log("warn", text)
	return append(slices.Clone(b.cp.Warnings), text)
}

// untouched says whether the shadow is as it was made.
func (b *build) untouched(ctx context.Context) error {
	info, err := b.db.Inspect(ctx, b.shadow())
	if err != nil {
		return err //nolint:wrapcheck // it says what
	}
	var wrong []string
	if info.Mark != b.mark() {
		wrong = append(wrong, fmt.Sprintf("its comment says %s", info.Mark))
	}
	given := map[string]bool{}
	for _, c := range info.Columns {
		given[c.Name] = true
	}
	for _, c := range b.sub.spec.Columns {
		if !given[c.Name] {
			wrong = append(wrong, "it has no column "+c.Name)
		}
	}
	if len(given) > len(b.sub.spec.Columns)+1 {
		wrong = append(wrong, "it has columns that the definition has not")
	}
	if !info.Lineage() {
		wrong = append(wrong, "it has no column of lineage")
	}
	if len(wrong) == 0 {
		return nil
	}
	return remedy.Wrapf(fmt.Errorf("table %s: %w: %s", b.shadow().Name, chstore.ErrChangedByHand, strings.Join(wrong, ", ")),
		"Cancel the rebuild and create a new one. Change the definition, not the table.")
}

// recount compares the rows of every chunk with the journal. It says whether some have
// to be loaded again.
func (b *build) recount(ctx context.Context) (again bool, err error) {
	if b.sub.kind != chstore.Keeping {
		return false, nil // poured and proved as a whole, or free to shrink
	}
	there, err := b.db.Chunks(ctx, b.shadow(), b.number(0))
	if err != nil {
		return false, err //nolint:wrapcheck // it says what
	}
	if err := b.recountCarried(ctx, there[b.carried()]); err != nil {
		return false, err
	}
	for i := range b.plan.Chunks {
		if rows, _ := b.journal.loaded(i); !b.holdsAll(there[b.number(i)], rows) {
			b.h.Log("warn", fmt.Sprintf("chunk %d has %d rows, and had %d when it was loaded", i, there[b.number(i)], rows))
			again = true
		}
	}
	return again, nil
}

// holdsAll says whether so many rows of what was put there are all that can be there: rows
// whose time is over leave a table with a TTL by themselves.
func (b *build) holdsAll(there, put uint64) bool {
	return there == put || there < put && b.sub.spec.TTL != ""
}

// recountCarried says whether the rows that were carried over are all there: those
// that were copied, and those that were linked, which have the numbers of earlier
// generations.
func (b *build) recountCarried(ctx context.Context, copied uint64) error {
	if b.spec.Scope.IsZero() {
		return nil
	}
	linked, err := b.db.CountBelow(ctx, b.shadow(), b.number(0))
	if err != nil {
		return err //nolint:wrapcheck // it says what
	}
	if b.holdsAll(linked+copied, b.cp.Rows) {
		return nil
	}
	return remedy.Wrapf(fmt.Errorf("table %s: %w: %d rows were carried over, and there are %d of them", b.shadow().Name, chstore.ErrChangedByHand, b.cp.Rows, linked+copied),
		"Cancel the rebuild and create a new one.")
}

// difference compares the shadow with the live table, in a scoped rebuild within the
// scope: what is carried over is proved when that is done. It is nil where there is
// nothing to compare with.
func (b *build) difference(ctx context.Context) (*chstore.Diff, error) {
	if b.cp.Base == 0 {
		return nil, nil //nolint:nilnil // nothing to compare with
	}
	live, err := b.db.Inspect(ctx, b.live())
	if errors.Is(err, chstore.ErrNoTable) {
		return nil, remedy.Wrapf(fmt.Errorf("the live table %s: %w", b.live().Name, chstore.ErrNoTable), "Somebody has dropped or renamed it: rename it back.")
	}
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what
	}
	has := func(name string) bool {
		for _, c := range live.Columns {
			if c.Name == name {
				return true
			}
		}
		return false
	}
	spec := chstore.DiffSpec{Old: b.live(), New: b.shadow(), Where: b.spec.Scope.rows(b.sub.def)}
	for _, name := range b.sub.def.Keys {
		if !has(name) {
			b.warn("the live table has no key column %q, so rows were compared as a whole", name)
			spec.Keys = nil
			break
		}
		spec.Keys = append(spec.Keys, name)
	}
	ignored := map[string]bool{}
	for _, name := range append(b.sub.def.Ignore, spec.Keys...) {
		ignored[name] = true
	}
	for _, c := range b.sub.spec.Columns {
		if !ignored[c.Name] && has(c.Name) {
			spec.Columns = append(spec.Columns, c.Name)
		}
	}
	spec.Progress = b.reading()
	diff, err := b.db.Diff(ctx, spec)
	return &diff, err //nolint:wrapcheck // it says what
}

// approvalFile is where a job keeps its approval, among its files.
const approvalFile = "approved.json"

// approval is that a person lets the new table take the place of the live one.
type approval struct {
	By   string    `json:"by"`
	Time time.Time `json:"time"`
}

// approve waits for a person, unless the definition says that none is needed and
// nothing speaks against it.
func (b *build) approve(ctx context.Context) error {
	if b.cp.Approved != "" {
		return nil
	}
	var a approval
	switch err := readFile(ctx, b.h.Files(), approvalFile, &a); {
	case err == nil:
		b.cp.Approved = a.By
		b.h.Log("info", "approved by "+a.By)
		return nil
	case !errors.Is(err, objectstore.ErrNotFound):
		return fmt.Errorf("read the approval: %w", err)
	}
	if b.spec.Approval == projection.Automatic && len(b.cp.Warnings) == 0 {
		b.cp.Approved = byDefinition
		return nil
	}
	reason := "waits for approval: reservoir rebuild approve " + b.job.ID
	if n := len(b.cp.Warnings); n > 0 {
		reason = fmt.Sprintf("waits for approval, with %d warnings (%s): reservoir rebuild approve %s", n, b.cp.Warnings[0], b.job.ID)
	}
	return jobs.Pause(reason)
}

// Approve lets the table of a rebuild take the place of the live one. by is who says so.
// A rebuild that has not come to that yet will not wait then.
func (s *Service) Approve(ctx context.Context, id, by string) (*jobs.Job, error) {
	return Approve(ctx, s.opts.Jobs, id, by)
}

// Approve is Service.Approve for whoever has the jobs only.
func Approve(ctx context.Context, store *jobs.Store, id, by string) (*jobs.Job, error) {
	return ApproveAs(ctx, store, id, jobs.Change{By: by})
}

// ApproveAs is Approve for whoever may have looked at the rebuild before: with IfMatch,
// the ETag of the job then, the error wraps jobs.ErrChanged where it is another one now,
// and jobs.ErrState where the rebuild does not wait for approval: what it comes to has not
// been looked at. A rebuild that waits keeps its ETag. The reason is always the approval.
func ApproveAs(ctx context.Context, store *jobs.Store, id string, c jobs.Change) (*jobs.Job, error) {
	job, err := store.Get(ctx, id)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the job
	}
	if job.Kind != Kind {
		return nil, fmt.Errorf("%w: job %s is a %s, and no rebuild", ErrInvalid, id, job.Kind)
	}
	if c.By == "" {
		c.By = "somebody"
	}
	if c.IfMatch != "" && c.IfMatch != job.ETag {
		return nil, fmt.Errorf("approve rebuild %s: %w since it was looked at", id, jobs.ErrChanged)
	}
	if job.State.Ended() || job.State == jobs.Cancelling {
		return nil, fmt.Errorf("approve rebuild %s: %w: it is %s", id, jobs.ErrState, job.State)
	}
	cp, err := readCheckpoint(job.Checkpoint)
	if err != nil {
		return nil, err
	}
	waits := job.State == jobs.Paused && cp.Phase == PhaseApproval
	if c.IfMatch != "" && !waits {
		return nil, remedy.Wrap(fmt.Errorf("approve rebuild %s: %w: it does not wait for approval, so what it will come to was not looked at", id, jobs.ErrState),
			"Wait until it does, or approve it without a condition.")
	}
	if err := putOnce(ctx, store.Files(id), approvalFile, approval{c.By, time.Now().UTC()}); err != nil || !waits {
		return job, err
	}
	return store.Resume(ctx, id, jobs.Change{By: c.By, Reason: "approved"}) //nolint:wrapcheck // it names the job
}
