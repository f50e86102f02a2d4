package volume

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestRetention has entries grow old in the trash of a store, while the node that
// counts their age comes and goes.
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, _, _ := twoNodes(t)
		for _, m := range []*Manager{a, b} {
			m.config.TrashRetention = time.Hour
			m.stores[0].beat(t.Context())
		}
		remove := func(name string) {
			t.Helper()
			must(t, a.Create(t.Context(), name, nil))
			must(t, a.Remove(t.Context(), name, "", false))
		}
		// pass lets a time pass for nodes that are alive, and returns what is expired
		// then for each.
		pass := func(duration time.Duration, alive ...*Manager) {
			t.Helper()
			for end := time.Now().Add(duration); time.Now().Before(end); {
				for range int(retentionPause / beatPause) {
					time.Sleep(beatPause)
					for _, m := range alive {
						m.stores[0].beat(t.Context())
					}
				}
				for _, m := range alive {
					must(t, m.retire(t.Context(), m.stores[0]))
				}
			}
		}
		expired := func(m *Manager) int { return len(m.stores[0].expired) }

		remove("web")
		pass(30*time.Minute, a, b)
		if len(b.stores[0].clock.at.String()) == 0 || b.stores[0].clock.inode != 0 {
			t.Error("two nodes move the clock")
		}
		remove("late")
		pass(20*time.Minute, b) // the first is gone: the other goes on
		if expired(a)+expired(b) > 0 {
			t.Error("an entry has expired before its time")
		}
		time.Sleep(10 * time.Hour) // nobody counts
		must(t, b.retire(t.Context(), b.stores[0]))
		if expired(b) > 0 {
			t.Error("time has passed that nobody has counted")
		}
		pass(15*time.Minute, b)
		if expired(b) != 1 {
			t.Errorf("after more than an hour, %d entries have expired", expired(b))
		}
		if !b.stores[0].purges(t.Context()) || a.stores[0].purges(t.Context()) && expired(a) > 0 {
			t.Error("the wrong node purges")
		}
		pass(time.Hour, b)
		if expired(b) != 2 {
			t.Errorf("after two hours, %d entries have expired", expired(b))
		}
	})
}

// TestRetentionOff and a clock that somebody has damaged.
func TestRetentionOff(t *testing.T) {
	m, _, d := oneStore(t)
	must(t, m.stores[0].refresh(t.Context()))
	must(t, m.Create(t.Context(), "web", nil))
	must(t, m.Remove(t.Context(), "web", "", false))
	must(t, m.retire(t.Context(), m.stores[0]))
	if d.has(trashClockFile) {
		t.Error("time is counted that nobody asks for")
	}
	m.config.TrashRetention = time.Hour
	for _, damage := range []string{"", "{", `{"seconds": -5}`, `{"seconds": 9, "since": {"web.0": 5}}`} {
		d.write(t, trashClockFile, damage)
		must(t, m.retire(t.Context(), m.stores[0]))
		if len(m.stores[0].expired) > 0 {
			t.Errorf("%q: an entry has expired", damage)
		}
	}
}
