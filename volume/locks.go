package volume

import (
	"context"
	"fmt"
	"sync"
)

// allNames, which is no volume's, is every name at once.
const allNames = ""

// nameLocks keep operations on one name apart, and on different names not. Who
// holds allNames is alone.
type nameLocks struct {
	mu   *sync.Mutex
	held map[string]chan struct{}
}

func newNameLocks() nameLocks {
	return nameLocks{mu: new(sync.Mutex), held: map[string]chan struct{}{}}
}

// lock waits for the name until ctx is done.
func (l nameLocks) lock(ctx context.Context, name string) (unlock func(), err error) {
	for {
		unlock, ok, freed := l.take(name)
		if ok {
			return unlock, nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, fmt.Errorf("volume %s: an earlier operation on it has not finished: %w", name, context.Cause(ctx))
		}
	}
}

// tryLock does not wait.
func (l nameLocks) tryLock(name string) (unlock func(), ok bool) {
	unlock, ok, _ = l.take(name)
	return unlock, ok
}

// take takes the name if it is free; else freed is closed when to try again.
func (l nameLocks) take(name string) (unlock func(), ok bool, freed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for held, freed := range l.held {
		if held == name || held == allNames || name == allNames {
			return nil, false, freed
		}
	}
	done := make(chan struct{})
	l.held[name] = done
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.held, name)
		close(done)
	}, true, nil
}
