package volume

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestReports: one store's trouble is not another's.
func TestReports(t *testing.T) {
	m, _, _, two := twoStores(t)
	must(t, m.Create(t.Context(), "web", nil))
	two.set(failWith(unix.ENOTCONN))
	reports := m.Reports(t.Context())
	if len(reports) != 2 || reports[0].Address != storeAddresses[0] || reports[1].Address != storeAddresses[1] {
		t.Fatalf("%+v", reports)
	}
	if r := reports[0]; r.Trouble != "" || r.Format != formatVersion || r.Usage.Total == 0 || len(r.Leftovers) > 0 || r.GraphTrouble == "" {
		t.Errorf("%+v", r)
	}
	if r := reports[1]; r.Trouble == "" || r.Format != 0 {
		t.Errorf("%+v", r)
	}
}

// TestReportOfLeftovers: a driver tells for how long it has seen what nobody settles.
func TestReportOfLeftovers(t *testing.T) {
	m, _, d := oneStore(t)
	cat, err := m.stores[0].connect(t.Context())
	must(t, err)
	stuck := tombstoneFile("web.0123456789abcdef", 7)
	d.write(t, stuck+"/not-empty", "") // which nobody can unlink
	d.write(t, trashFile("old.0123456789abcdef"), "{}")
	left := func() Leftover {
		t.Helper()
		list := m.Reports(t.Context())[0].Leftovers
		if len(list) != 1 || list[0].File != stuck {
			t.Fatalf("left: %+v", list)
		}
		return list[0]
	}
	if l := left(); l.Seconds != 0 {
		t.Errorf("not looked at before: %+v", l)
	}
	must(t, cat.settle(t.Context(), free))
	for key := range cat.seen {
		cat.seen[key] = time.Now().Add(-SettledWithin - time.Second)
	}
	if l := left(); time.Duration(l.Seconds)*time.Second < SettledWithin {
		t.Errorf("seen for long: %+v", l)
	}
	must(t, os.RemoveAll(d.path(stuck)))
}

// TestReportChangesNothing, neither where no store is yet nor on one.
func TestReportChangesNothing(t *testing.T) {
	d := newDisk(t)
	config := newNode(t, "node-a", d).config
	for range 2 {
		before := snapshot(t, d.dir)
		r := Report(t.Context(), config.Control, config.Stores[0])
		if made := len(before) > 1; r.Trouble != "" || (r.Format == formatVersion) != made {
			t.Errorf("%+v", r)
		}
		if after := snapshot(t, d.dir); !reflect.DeepEqual(after, before) {
			t.Errorf("there was %v, and is %v", before, after)
		}
		must(t, TryStore(t.Context(), config.Control, config.Stores[0]))
	}
	for name := range snapshot(t, d.dir) {
		if strings.HasPrefix(name, nodesDir+"/") {
			t.Errorf("who has only tried has joined: %s", name)
		}
	}
	d.write(t, formatFile, `{"format": 99}`)
	if err := TryStore(t.Context(), config.Control, config.Stores[0]); err == nil || !strings.Contains(err.Error(), "format 99") {
		t.Errorf("a newer store: %v", err)
	}
	if r := Report(t.Context(), config.Control, config.Stores[0]); !strings.Contains(r.Trouble, "format 99") {
		t.Errorf("a newer store: %+v", r)
	}
}
