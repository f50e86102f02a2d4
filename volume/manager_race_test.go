package volume

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
)

// TestManagerRace has many requests on few names at once. No volume goes while
// it is mounted, and at the end nothing is counted and nothing is left.
func TestManagerRace(t *testing.T) {
	m, n, d := oneStore(t)
	must(t, m.stores[0].refresh(t.Context()))
	names := []string{"v0", "v1", "v2", "v3", "v4"}
	stop := run(t, m)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for range 8 {
				name := names[rand.IntN(len(names))]
				if err := oneRequest(t, m, d, name, fmt.Sprintf("id%d", i%10)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
	stop()

	for _, name := range names {
		wantCounts(t, n, name, "")
		if err := m.Remove(t.Context(), name, "", false); err != nil && !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	}
	wantNames(t, "users of clients", n.clients.usedBy())
	wantNames(t, "volumes", knownNames(m.stores[0]))
	wantNames(t, "definitions", mustGlob(t, d, definitionDir, "", ""))
	wantNames(t, "tombstones", mustGlob(t, d, tombstoneDir, "", ""))
	wantNames(t, "directories", mustGlob(t, d, dataDir, "", ""))
	list, err := m.Trash(t.Context())
	must(t, err)
	if files := mustGlob(t, d, trashDir, "", ""); len(files) != 2*len(list) {
		t.Errorf("the trash has %d entries, and the files %q", len(list), files)
	}
	files, err := os.ReadDir(m.mounts.dir)
	if err != nil || len(files) != 1 {
		t.Errorf("in the run directory are %v, %v; want boot-id alone", files, err)
	}
	if len(m.names.held) > 0 {
		t.Errorf("locked: %v", m.names.held)
	}
}

// oneRequest makes a random request. What may come of it with others about is
// no error.
func oneRequest(t *testing.T, m *Manager, d *disk, name, id string) error {
	ctx := t.Context()
	switch rand.IntN(5) {
	case 0:
		return m.Create(ctx, name, nil)
	case 1, 2:
		if _, err := m.Mount(ctx, name, id); err != nil {
			return unless(err, ErrNotFound)
		}
		if !d.has("volumes/" + name) {
			return errors.New("its directory is gone while it is mounted")
		}
		return m.Unmount(ctx, name, id)
	case 3:
		err := m.Remove(ctx, name, "", false)
		if _, inUse := errors.AsType[*InUseError](err); inUse {
			return nil
		}
		return unless(err, ErrNotFound)
	default:
		v, err := m.Get(ctx, name)
		if err == nil && v.Name != name {
			return fmt.Errorf("got %+v", v)
		}
		for range m.List() {
		}
		return unless(err, ErrNotFound)
	}
}

func unless(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}
