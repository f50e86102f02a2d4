package gluster

import (
	"context"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/glustervol/glustervol/gluster/client"
)

// ErrNoAnswer is in the chain of an error about a store that did not answer
// before the deadline. Whether the operation took effect is unknown.
var ErrNoAnswer = fmt.Errorf("the store gave %w", client.ErrNoAnswer)

// calls lets a caller leave a call that hangs, of the kernel or of libgfapi.
// Neither can be told to give up, so the call keeps its thread; how many threads
// a hung store can hold in this way is bounded by the number of slots. While it
// owes an answer for longer than Gluster takes to do without a server, further
// calls wait for a moment only, and so they fail fast, until the late answer
// tells that the store is back.
type calls struct {
	slots chan struct{}
	owed  *owed
}

// owed are the calls that their callers have left and that have not returned,
// with when they were made.
type owed struct {
	mu    sync.Mutex
	calls map[*bool]time.Time
}

const (
	// maxCalls is how many operations on one store run at once. A healthy brick
	// is kept busy by fewer.
	maxCalls = 32
	// hungPatience is how long a call waits for a store that owes an answer.
	hungPatience = 2 * time.Second
	// failoverTime is how long a store may owe one, and not be taken for hung: when a
	// server has lost its power, the bricks of the others answer after deadServerTime, and
	// a server whose brick alone hangs has this long to come back.
	failoverTime = 45 * time.Second
)

func newCalls() calls {
	return calls{slots: make(chan struct{}, maxCalls), owed: &owed{calls: map[*bool]time.Time{}}}
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
	if since, hung := c.owed.since(); hung {
		var cancel context.CancelFunc
		patience := max(hungPatience, failoverTime-time.Since(since))
		ctx, cancel = context.WithTimeoutCause(ctx, patience, fmt.Errorf("it has owed an answer for %s", time.Since(since).Round(time.Second)))
		defer cancel()
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return none, noAnswer(ctx, op, name)
	}
	done := make(chan result, 1)
	start, returned := time.Now(), new(bool)
	go func() {
		defer func() { <-c.slots }()
		value, err := fn()
		done <- result{value, err}
		c.owed.settle(returned)
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		c.owed.add(returned, start)
		return none, noAnswer(ctx, op, name)
	}
}

// add notes a call that its caller has left, unless it has returned just now.
func (o *owed) add(returned *bool, start time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !*returned {
		o.calls[returned] = start
	}
}

// settle notes that a call has returned.
func (o *owed) settle(returned *bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	*returned = true
	delete(o.calls, returned)
}

// since is when the longest owed call was made, if any is.
func (o *owed) since() (since time.Time, hung bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, start := range o.calls {
		if !hung || start.Before(since) {
			since, hung = start, true
		}
	}
	return since, hung
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
