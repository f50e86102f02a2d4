package volume

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"time"
)

// How long an entry has been in the trash is counted by a clock of the store's
// own, in a file. One node moves it, the first of those that are alive, by what
// its own monotonic clock has measured since it moved it last; who takes over
// begins to measure then. So the clock can be slow, and is never fast: an entry may
// stay longer than it has to, and never goes early.
const trashClockFile = controlDir + "/trash.json"

// trashClock is what the file says.
type trashClock struct {
	// Seconds is the time.
	Seconds int64 `json:"seconds"`
	// Since is when entries were first seen.
	Since map[string]int64 `json:"since"`
}

// retentionPause is how often the clock moves, and retentionStep the most that it
// moves at once: a machine that was suspended does not catch up.
const (
	retentionPause = time.Minute
	retentionStep  = 2 * retentionPause
)

// movedClock is what this node wrote last.
type movedClock struct {
	inode uint64
	at    time.Time
}

// isPurger tells whether this node is the one that purges in the background: the
// first of those that are alive.
func (c *catalog) isPurger(ctx context.Context) (bool, error) {
	own, joined := c.members.joined()
	if !joined {
		return false, nil
	}
	list, err := c.members.all(ctx)
	if err != nil {
		return false, err
	}
	for _, one := range list {
		if one.number == own {
			return true, nil
		}
		if silence, stopped := c.pulse.unheard(one.number); !one.Forgotten && !stopped && silence < aliveTime {
			return false, nil
		}
	}
	return false, nil
}

// moveClock moves the store's clock, and returns the entries that have been in
// the trash for longer than retention.
func (c *catalog) moveClock(ctx context.Context, list []Trashed, last movedClock, retention time.Duration) (expired []Trashed, moved movedClock, err error) {
	clock, inode, err := c.readClock(ctx)
	if err != nil {
		return nil, movedClock{}, err
	}
	now := time.Now()
	if inode != 0 && inode == last.inode {
		clock.Seconds += int64(min(now.Sub(last.at), retentionStep).Seconds())
	}
	since := map[string]int64{}
	for _, t := range list {
		first, known := clock.Since[t.Entry]
		if !known || first > clock.Seconds {
			first = clock.Seconds
		}
		since[t.Entry] = first
		if time.Duration(clock.Seconds-first)*time.Second >= retention {
			expired = append(expired, t)
		}
	}
	clock.Since = since
	data, err := json.Marshal(clock)
	if err != nil {
		return nil, movedClock{}, err
	}
	moved.at = now
	moved.inode, err = replace(ctx, c.fs, trashClockFile, append(data, '\n'))
	return expired, moved, err
}

// readClock reads the store's clock. One that is damaged begins anew.
func (c *catalog) readClock(ctx context.Context) (clock trashClock, inode uint64, err error) {
	if inode, err = c.inode(ctx, trashClockFile); err != nil || inode == 0 {
		return trashClock{}, 0, err
	}
	data, err := c.fs.ReadFile(ctx, trashClockFile)
	if errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if json.Unmarshal(data, &clock) != nil || clock.Seconds < 0 {
		clock = trashClock{}
	}
	return clock, inode, err
}

// retire purges what has been in the trash for long enough, if this node is the
// one to do it.
func (m *Manager) retire(ctx context.Context, s *store) error {
	if m.config.TrashRetention == 0 {
		return nil
	}
	cat, err := s.connect(ctx)
	if err != nil {
		return err
	}
	purger, err := cat.isPurger(ctx)
	if err != nil || !purger {
		s.clock = movedClock{}
		return s.failed(err)
	}
	list, err := s.trashInBackground(ctx)
	if noAnswer(err) {
		return err
	}
	list = slices.DeleteFunc(list, func(t Trashed) bool { return t.Purging })
	if len(list) == 0 {
		s.clock = movedClock{}
		return nil
	}
	expired, moved, err := cat.moveClock(ctx, list, s.clock, m.config.TrashRetention)
	s.clock = moved
	if err != nil {
		return s.failed(err)
	}
	s.retireEntries(expired)
	return nil
}

// retireEntries has the background purge take entries.
func (s *store) retireEntries(list []Trashed) {
	if len(list) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range list {
		s.expired[t.Entry] = true
	}
	s.purgeSoon()
}

// isExpired tells whether an entry is to be purged for its age.
func (s *store) isExpired(entry string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.expired[entry]
}
