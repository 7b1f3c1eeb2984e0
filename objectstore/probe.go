package objectstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	probePrefix   = "probe/"
	probeCreators = 8
	probeCleanup  = 10 * time.Second
)

// UnsafeStoreError says that a store does not honour conditional writes.
// Nothing can be archived there: two writers would overwrite one another.
type UnsafeStoreError struct {
	Condition string // what was asked of it, such as "If-None-Match: *"
	Got       string // what it did
}

func (e *UnsafeStoreError) Error() string {
	return fmt.Sprintf("object store does not honour conditional writes: %s: %s", e.Condition, e.Got)
}

// Remedy says what to do.
func (e *UnsafeStoreError) Remedy() string {
	return "use a store that honours If-None-Match and If-Match on PutObject (Amazon S3, MinIO, Ceph, Cloudflare R2, versitygw, a local directory); " +
		"if this one should, look for a setting or a proxy that drops these headers"
}

// Probe tries whether conditional writes hold, with small objects of names of
// their own under "probe/", which it removes. It returns an *UnsafeStoreError if
// they do not. Any number of processes may probe a store at the same time.
func Probe(ctx context.Context, store Store) error {
	p := &probe{store, probePrefix + rand.Text() + "/"}
	for _, try := range []struct {
		name string
		run  func(context.Context) error
	}{{"create", p.create}, {"match", p.match}, {"race", p.race}} {
		if err := errors.Join(try.run(ctx), p.clean(ctx, try.name)); err != nil {
			return fmt.Errorf("probe object store: %w", err)
		}
	}
	return nil
}

// clean removes what a try wrote, whatever became of ctx.
func (p *probe) clean(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeCleanup)
	defer cancel()
	return p.store.Delete(ctx, p.prefix+name)
}

type probe struct {
	store  Store
	prefix string
}

func (p *probe) put(ctx context.Context, name, text string, cond Condition) (Info, error) {
	return p.store.Put(ctx, p.prefix+name, strings.NewReader(text), cond)
}

func (p *probe) create(ctx context.Context) error {
	const condition = "If-None-Match: *"
	// The first may fail its condition too: its answer lost, and sent again.
	if _, err := p.put(ctx, "create", "first", IfAbsent); err != nil && !errors.Is(err, ErrPrecondition) {
		if apiStatus(err) == http.StatusNotImplemented {
			return &UnsafeStoreError{condition, "not implemented, says the store"}
		}
		return err
	}
	_, err := p.put(ctx, "create", "second", IfAbsent)
	return p.refused(ctx, err, ErrPrecondition, condition, "create", "first")
}

func (p *probe) match(ctx context.Context) error {
	first, err := p.put(ctx, "match", "first", Always)
	if err != nil {
		return err
	}
	second, err := p.put(ctx, "match", "second", IfMatch(first.ETag))
	if errors.Is(err, ErrPrecondition) { // sent again, or refused though the ETag is right
		if second, err = p.store.Head(ctx, p.prefix+"match"); err == nil && second.ETag == first.ETag {
			return &UnsafeStoreError{"If-Match: " + first.ETag, "refused, though this is the object's ETag"}
		}
	}
	if err != nil {
		return err
	}
	if second.ETag == first.ETag {
		return &UnsafeStoreError{"If-Match: " + first.ETag, "other contents have the same ETag"}
	}
	_, err = p.put(ctx, "match", "third", IfMatch(first.ETag))
	if err := p.refused(ctx, err, ErrPrecondition, "If-Match with a stale ETag", "match", "second"); err != nil {
		return err
	}
	if err := p.store.Delete(ctx, p.prefix+"match"); err != nil {
		return err
	}
	_, err = p.put(ctx, "match", "fourth", IfMatch(second.ETag))
	if errors.Is(err, ErrPrecondition) { // some say it this way, and it is safe
		err = ErrNotFound
	}
	return p.refused(ctx, err, ErrNotFound, "If-Match on an object that does not exist", "match", "")
}

// refused checks that a Put failed as it must and left the object as it was.
func (p *probe) refused(ctx context.Context, err, want error, condition, name, contents string) error {
	if err == nil {
		return &UnsafeStoreError{condition, "the write went through"}
	}
	if !errors.Is(err, want) {
		return fmt.Errorf("%s: %w", condition, err)
	}
	if contents == "" {
		return nil
	}
	text, err := p.read(ctx, name)
	if err != nil {
		return err
	}
	if text != contents {
		return &UnsafeStoreError{condition, "refused, but written nevertheless"}
	}
	return nil
}

func (p *probe) race(ctx context.Context) error {
	won := make([]bool, probeCreators)
	group, ctx := errgroup.WithContext(ctx)
	for i := range won {
		group.Go(func() error {
			_, err := p.put(ctx, "race", fmt.Sprint(i), IfAbsent)
			if won[i] = err == nil; errors.Is(err, ErrPrecondition) {
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return p.oneWon(context.WithoutCancel(ctx), won)
}

func (p *probe) oneWon(ctx context.Context, won []bool) error {
	condition := fmt.Sprintf("If-None-Match: * by %d writers at once", probeCreators)
	text, err := p.read(ctx, "race")
	if err != nil {
		return err
	}
	winners := 0
	for i, ok := range won {
		if !ok {
			continue
		}
		if winners++; winners > 1 {
			return &UnsafeStoreError{condition, "more than one went through"}
		}
		if text != fmt.Sprint(i) {
			return &UnsafeStoreError{condition, "the object holds another's contents than the one's that went through"}
		}
	}
	return nil // none at all: the winner's answer was lost
}

func (p *probe) read(ctx context.Context, name string) (string, error) {
	body, _, err := p.store.Get(ctx, p.prefix+name, ByteRange{})
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(body)
	return string(text), errors.Join(err, body.Close())
}
