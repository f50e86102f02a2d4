package volume

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestIdleCost holds down what nodes with nothing to do ask the store for: neither more
// volumes nor more nodes may have a node ask for much more.
func TestIdleCost(t *testing.T) {
	few, many := idleCost(t, 3, 10, 0), idleCost(t, 3, 1000, 0)
	crowd := idleCost(t, 4*heardAtOnce, 10, 0)
	removed := idleCost(t, 3, 10, 1000)
	for _, c := range []struct {
		doc         string
		cost, limit float64
	}{
		{"3 nodes, 10 volumes", few, 12},
		{"3 nodes, 1,000 volumes", many, few + 2*rereadAtOnce/sweepPause.Seconds()},
		{"3 nodes, 1,000 volumes in the trash", removed, few + 2},
		{"40 nodes, 10 volumes", crowd, few + 2*heardAtOnce/beatPause.Seconds()},
	} {
		t.Logf("%s: %.1f operations a second and node", c.doc, c.cost)
		if c.cost > c.limit {
			t.Errorf("%s: %.1f operations a second and node, wanted at most %.1f", c.doc, c.cost, c.limit)
		}
	}
}

// idleCost is how many operations a second each of some nodes asks the store for, while
// nobody uses any of its volumes.
func idleCost(t *testing.T, nodes, volumes, removed int) (perNode float64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		for i := range nodes {
			m := newNode(t, fmt.Sprint("node", i), d).start(t)
			for v := range volumes {
				if i == 0 {
					must(t, m.Create(t.Context(), fmt.Sprint("volume", v), nil))
				}
			}
			for v := range removed {
				if name := fmt.Sprint("removed", v); i == 0 {
					must(t, m.Create(t.Context(), name, nil))
					must(t, m.Remove(t.Context(), name, "", false))
				}
			}
			defer run(t, m)()
		}
		time.Sleep(2 * sweepPause) // all know all
		var mu sync.Mutex
		counts := map[string]int{}
		d.set(func(_ context.Context, op, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			counts[op]++
			return nil
		})
		const window = 10 * sweepPause
		time.Sleep(window)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		var table strings.Builder
		for _, op := range slices.Sorted(maps.Keys(counts)) {
			rate := float64(counts[op]) / window.Seconds() / float64(nodes)
			perNode += rate
			fmt.Fprintf(&table, " %s %.2f", op, rate)
		}
		t.Logf("%d nodes, %d volumes, %d in the trash, a second and node:%s", nodes, volumes, removed, table.String())
	})
	return perNode
}
