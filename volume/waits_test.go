package volume

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestWaits counts for how many answers of the store, one behind the other, somebody waits
// for a call. What does not depend on each other is asked at the same time, so that it does not
// grow with the nodes.
func TestWaits(t *testing.T) {
	for _, nodes := range []int{2, lookUpsAtOnce} {
		t.Run(fmt.Sprint(nodes, " nodes"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testWaits(t, nodes) })
		})
	}
}

func testWaits(t *testing.T, nodes int) {
	d := newDisk(t)
	var m *Manager
	for i := range nodes {
		m = newNode(t, fmt.Sprint("node-", i), d).start(t)
		must(t, m.stores[0].refresh(t.Context()))
		m.stores[0].beat(t.Context())
	}
	d.set(func(context.Context, string, string) error {
		time.Sleep(time.Second)
		return nil
	})
	defer d.set(nil)
	for _, call := range []struct {
		doc     string
		answers int
		do      func() error
	}{
		{"Create: claim, look, mkdir, rename, look", 5, func() error { return m.Create(t.Context(), "web", nil) }},
		{"Mount: reference, tombstones, trash, definition, and the directory beside", 4, func() error { _, err := m.Mount(t.Context(), "web", "1"); return err }},
		{"second Mount: this node, definition, trash, and the directory beside", 3, func() error { _, err := m.Mount(t.Context(), "web", "2"); return err }},
		{"Unmount", 0, func() error { return m.UnmountAll(t.Context(), "web", "2") }},
		{"last Unmount", 0, func() error { return m.UnmountAll(t.Context(), "web", "1") }},
		{"Get", 0, func() error { _, err := m.Get(t.Context(), "web"); return err }},
		{"Remove: tombstone, others, trash, definition, two renames, unlink", 7, func() error { return m.Remove(t.Context(), "web", "", false) }},
	} {
		begin := time.Now()
		err := call.do()
		took := int(time.Since(begin) / time.Second)
		if err != nil || took != call.answers {
			t.Errorf("%s: waits for %d answers, wanted %d (%v)", call.doc, took, call.answers, err)
		}
		synctest.Wait()
	}
}
