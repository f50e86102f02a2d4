package gluster

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// TestCallHangs has a store hang under a thousand calls: the first leaves at its
// deadline and the others soon, a bounded number is left behind, and all goes on
// when the store does.
func TestCallHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const patience = time.Minute
		c := newCalls()
		answer := make(chan struct{})
		before := runtime.NumGoroutine()
		for i := range 1000 {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			start := time.Now()
			err := do(ctx, c, "mkdir", "a/b", func() error { <-answer; return nil })
			cancel()
			wantNoAnswer(t, err)
			want := hungPatience
			if i == 0 {
				want = patience
			}
			if waited := time.Since(start); waited != want {
				t.Fatalf("call %d left after %s, want %s", i, waited, want)
			}
		}
		// The runtime counts some that have just ended.
		if n := runtime.NumGoroutine() - before; n > 2*maxCalls {
			t.Errorf("%d goroutines are left behind, want at most %d", n, maxCalls)
		}
		close(answer)
		synctest.Wait()
		if _, hung := c.owed.since(); hung {
			t.Error("an answer is still owed after all have come")
		}
		for i := range 2 * maxCalls {
			got, err := call(t.Context(), c, "read", "a", func() (int, error) { return i, nil })
			if err != nil || got != i {
				t.Fatalf("after the hang: %d, %v; want %d", got, err, i)
			}
		}
	})
}

// TestCallWaitsForFailover: a call behind one that was left waits until Gluster does
// without the server that is silent.
func TestCallWaitsForFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pingTimeout = 42 * time.Second
		c := newCalls()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		wantNoAnswer(t, do(ctx, c, "mkdir", "a/b", func() error { time.Sleep(pingTimeout); return nil }))
		if err := do(t.Context(), c, "mkdir", "a/b", func() error { time.Sleep(pingTimeout - 30*time.Second); return nil }); err != nil {
			t.Errorf("not waited for: %v", err)
		}
	})
}

func TestCallAfterItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 100 { // a free slot must not win over the deadline, not even by chance
			err := do(ctx, newCalls(), "mkdir", "a/b", func() error {
				t.Error("the call was made")
				return nil
			})
			if !errors.Is(err, ErrNoAnswer) || !errors.Is(err, context.Canceled) {
				t.Fatalf("error %v", err)
			}
			synctest.Wait()
		}
	})
}

func TestCallFails(t *testing.T) {
	err := do(t.Context(), newCalls(), "mkdir", "a/b", func() error { return fs.ErrExist })
	if !errors.Is(err, fs.ErrExist) || errors.Is(err, ErrNoAnswer) {
		t.Errorf("error %v, want the call's own", err)
	}
}

func TestAwaitIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCalls()
		start := time.Now()
		c.awaitIdle(time.Minute)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %s for nothing", waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantNoAnswer(t, do(ctx, c, "mkdir", "a/b", func() error { time.Sleep(10 * time.Second); return nil }))
		c.awaitIdle(5 * time.Second)
		if waited := time.Since(start); waited != 6*time.Second {
			t.Errorf("waited until %s, want 6s", waited)
		}
		c.awaitIdle(time.Minute)
		if waited := time.Since(start); waited != 10*time.Second {
			t.Errorf("waited until %s, want 10s, when the call ends", waited)
		}
		for range 2 * maxCalls { // the slots are free again
			if err := do(t.Context(), c, "mkdir", "a/b", func() error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func wantNoAnswer(t *testing.T, err error) {
	t.Helper()
	var pathErr *fs.PathError
	if !errors.As(err, &pathErr) || pathErr.Op != "mkdir" || pathErr.Path != "a/b" {
		t.Fatalf("error %v does not name the operation", err)
	}
	if !errors.Is(err, ErrNoAnswer) {
		t.Fatalf("error %v, want %v", err, ErrNoAnswer)
	}
}
