package clustertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glustervol/glustervol/volume"
)

const (
	// races is how often one node mounts what another removes.
	races = 2000
	// lanes is how many races are run side by side, each over a volume of its own.
	lanes = 8
)

// raceOutcomes counts how races ended.
type raceOutcomes struct {
	mu                       sync.Mutex
	mounted, removed, nobody int
}

// TestRaces: of a node that mounts a volume and one that removes it at the same
// time, at most one succeeds, and what was mounted is there.
func TestRaces(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var outcomes raceOutcomes
	var group sync.WaitGroup
	for lane := range lanes {
		group.Go(func() {
			for round := range races / lanes {
				if err := race(t.Context(), c, fmt.Sprintf("race%d-%d", lane, round), &outcomes); err != nil {
					t.Errorf("race %d of lane %d: %v", round, lane, err)
					return
				}
			}
		})
	}
	group.Wait()
	t.Logf("%d races: %d mounted, %d removed, %d neither", races, outcomes.mounted, outcomes.removed, outcomes.nobody)
	if outcomes.mounted < races/20 || outcomes.removed < races/20 {
		t.Error("the races are none: one side nearly always wins")
	}
}

// race has one node mount a new volume and another remove it.
func race(ctx context.Context, c *cluster, name string, outcomes *raceOutcomes) error {
	order := rand.Perm(len(c.nodes)) // any two nodes
	mounter, remover := c.nodes[order[0]], c.nodes[order[1]]
	if _, err := c.nodes[order[2]].admin.Create(ctx, name, nil); err != nil {
		return err
	}
	var group sync.WaitGroup
	var path string
	var mountErr, removeErr error
	group.Go(func() {
		time.Sleep(rand.N(5 * time.Millisecond)) // how long either takes differs by about that
		path, mountErr = mounter.admin.Mount(ctx, name)
	})
	group.Go(func() {
		time.Sleep(rand.N(10 * time.Millisecond))
		removeErr = remover.admin.Remove(ctx, name, "", false)
	})
	group.Wait()

	outcomes.mu.Lock()
	defer outcomes.mu.Unlock()
	switch {
	case mountErr == nil && removeErr == nil:
		return fmt.Errorf("volume %s was removed and is mounted", name)
	case mountErr == nil:
		outcomes.mounted++
		return errors.Join(wantError(removeErr, "in use on node "+mounter.id, "is being mounted"), useMounted(ctx, mounter, name, path))
	case removeErr == nil:
		outcomes.removed++
		return wantError(mountErr, volume.ErrNotFound.Error(), "is being removed")
	}
	outcomes.nobody++
	_, err := mounter.admin.Inspect(ctx, name)
	return err
}

// useMounted writes to a mounted volume, sees the file where the volume is, and
// unmounts.
func useMounted(ctx context.Context, n *node, name, path string) error {
	if err := os.WriteFile(n.path(path)+"/file", []byte(name), 0o600); err != nil {
		return err
	}
	if data, err := os.ReadFile(n.brick("volumes/" + name + "/file")); err != nil || string(data) != name {
		return fmt.Errorf("what was written to mounted volume %s is not there: %q, %w", name, data, err)
	}
	return n.admin.Unmount(ctx, name)
}

// wantError returns an error that has none of some words.
func wantError(err error, words ...string) error {
	for _, word := range words {
		if strings.Contains(err.Error(), word) {
			return nil
		}
	}
	return fmt.Errorf("wanted an error with one of %q, got: %w", words, err)
}
