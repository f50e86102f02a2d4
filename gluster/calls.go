package gluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// ErrNoAnswer is in the chain of an error about a store that did not answer
// before the deadline. Whether the operation took effect is unknown.
var ErrNoAnswer = errors.New("the store did not answer in time")

// calls lets a caller leave a system call that hangs. The kernel cannot be told
// to give up, so the call keeps its thread; how many threads a hung store can
// hold in this way is bounded by the number of slots.
type calls struct {
	slots chan struct{}
}

// maxCalls is how many operations on one store run at once. A healthy brick is
// kept busy by fewer.
const maxCalls = 32

func newCalls() calls {
	return calls{slots: make(chan struct{}, maxCalls)}
}

// call runs fn in a slot of c and waits for its result until ctx is done.
func call[T any](ctx context.Context, c calls, op, name string, fn func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, noAnswer(ctx, op, name)
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return none, noAnswer(ctx, op, name)
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-c.slots }()
		value, err := fn()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return none, noAnswer(ctx, op, name)
	}
}

// do is call for an operation that has no result.
func do(ctx context.Context, c calls, op, name string, fn func() error) error {
	_, err := call(ctx, c, op, name, func() (struct{}, error) { return struct{}{}, fn() })
	return err
}

// awaitIdle waits until no call is under way, at most for patience.
func (c calls) awaitIdle(patience time.Duration) {
	over := time.After(patience)
	for range cap(c.slots) {
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
		case <-over:
			return
		}
	}
}

func noAnswer(ctx context.Context, op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fmt.Errorf("%w (%w)", ErrNoAnswer, context.Cause(ctx))}
}
