package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// twoNodes are the drivers of two nodes on one store, both there since long.
func twoNodes(t *testing.T) (a, b *Manager, nodeA, nodeB *node, d *disk) {
	t.Helper()
	d = newDisk(t)
	nodeA, nodeB = newNode(t, "node-a", d), newNode(t, "node-b", d)
	a, b = nodeA.start(t), nodeB.start(t)
	for _, m := range []*Manager{a, b} {
		must(t, m.stores[0].refresh(t.Context()))
		m.stores[0].beat(t.Context())
	}
	return a, b, nodeA, nodeB, d
}

// TestInUseElsewhere: what one node has mounted, another cannot remove, whatever
// becomes of the first one's driver.
func TestInUseElsewhere(t *testing.T) {
	a, b, nodeA, _, _ := twoNodes(t)
	must(t, a.Create(t.Context(), "web", nil))
	_, err := a.Mount(t.Context(), "web", "container-1")
	must(t, err)
	refused := func(words ...string) {
		t.Helper()
		err := b.Remove(t.Context(), "web", "", false)
		inUse, found := errors.AsType[*InUseError](err)
		if !found || len(inUse.Holders) != 1 || inUse.Holders[0].Node != "node-a" {
			t.Fatalf("removed with %v", err)
		}
		for _, word := range append(words, "volume web is in use on node node-a") {
			wantText(t, err, word)
		}
	}
	refused("stop and remove what uses it first")
	must(t, a.reconcile(t.Context(), a.stores[0]))
	refused("by mount container-1")

	// Its driver is killed, and started again.
	nodeA.config.Node.Session += "+"
	nodeA.clients.restart()
	again := nodeA.start(t)
	refused()
	must(t, again.reconcile(t.Context(), again.stores[0]))
	refused("by mount container-1")

	must(t, again.Unmount(t.Context(), "web", "container-1"))
	must(t, again.reconcile(t.Context(), again.stores[0]))
	must(t, b.Remove(t.Context(), "web", "", false))
}

// TestStaleReference is of a use that ended while the driver did not run.
func TestStaleReference(t *testing.T) {
	a, b, nodeA, _, _ := twoNodes(t)
	must(t, a.Create(t.Context(), "web", nil))
	_, err := a.Mount(t.Context(), "web", "1")
	must(t, err)
	must(t, os.RemoveAll(filepath.Join(nodeA.config.RunDir, "mounts"))) // as a reboot does
	again := nodeA.restart(t, a)
	if err := b.Remove(t.Context(), "web", "", false); err == nil {
		t.Error("removed before the node has told what it uses")
	}
	must(t, again.reconcile(t.Context(), again.stores[0]))
	must(t, b.Remove(t.Context(), "web", "", false))
}

// TestUnreadableReference counts as one.
func TestUnreadableReference(t *testing.T) {
	a, b, _, _, d := twoNodes(t)
	must(t, a.Create(t.Context(), "web", nil))
	v, err := a.Get(t.Context(), "web")
	must(t, err)
	for doc, spoil := range map[string]func(file string){
		"damaged":     func(file string) { d.write(t, file, "{") },
		"a directory": func(file string) { must(t, os.Mkdir(d.path(file), 0o700)) },
		"a symlink":   func(file string) { must(t, os.Symlink("/etc/passwd", d.path(file))) },
	} {
		file := referenceFile(0, v.ID)
		spoil(file)
		err := b.Remove(t.Context(), "web", "", false)
		wantText(t, err, "a reference that cannot be read")
		if t.Failed() {
			t.Fatal(doc)
		}
		must(t, os.RemoveAll(d.path(file)))
	}
	d.set(onlyFor("read", referenceFile(0, v.ID), failWith(os.ErrPermission)))
	wantText(t, b.Remove(t.Context(), "web", "", false), "whether node node-a uses the volume cannot be read")
	d.set(nil)
	must(t, b.Remove(t.Context(), "web", "", false))
	wantNothingUnderWay(t, d)
}

// TestForget has a node be gone, be forgotten, and come back.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, nodeA, _, d := twoNodes(t)
		must(t, a.Create(t.Context(), "web", nil))
		must(t, a.Create(t.Context(), "kept", nil))
		must(t, a.Create(t.Context(), "db", nil))
		a.SetContainers(map[string][]ContainerRef{"db": {{ID: "1f", Name: "db", State: "exited"}}})
		must(t, a.reconcile(t.Context(), a.stores[0]))
		for _, name := range []string{"web", "kept"} {
			_, err := a.Mount(t.Context(), name, "1")
			must(t, err)
		}
		b.stores[0].beat(t.Context())
		wantText(t, b.Forget(t.Context(), "node-a"), "it was heard of 0s ago")
		wantText(t, b.Forget(t.Context(), "node-b"), "it is this one")
		wantText(t, b.Forget(t.Context(), "node-c"), "there is no such node")
		wantText(t, b.Forget(t.Context(), "../node"), "forget node")

		for range 100 { // node-a is not heard of any more
			time.Sleep(beatPause)
			b.stores[0].beat(t.Context())
		}
		nodes, err := b.Nodes(t.Context())
		must(t, err)
		if len(nodes) != 2 || nodes[0].State != "silent" || nodes[0].Silence < 290 || nodes[0].Volumes != 3 || nodes[1].State != "this node" {
			t.Errorf("nodes: %+v", nodes)
		}
		wantText(t, b.Remove(t.Context(), "web", "", false), "unheard of for 5m0s; if it is gone for good, say 'glustervol node forget node-a'")
		must(t, b.Forget(t.Context(), "node-a"))
		must(t, b.Remove(t.Context(), "web", "", false))
		must(t, b.Remove(t.Context(), "db", "", false))

		must(t, a.stores[0].refresh(t.Context())) // it comes back
		must(t, a.reconcile(t.Context(), a.stores[0]))
		for _, name := range []string{"web", "db"} {
			if lines := nodeA.logs.with("was removed on another", "volume="+name, "trash restore "+name+"."); len(lines) != 1 {
				t.Errorf("log about %s: %q", name, lines)
			}
		}
		must(t, a.reconcile(t.Context(), a.stores[0]))
		if lines := nodeA.logs.with("was removed on another"); len(lines) != 2 {
			t.Errorf("told again: %q", lines)
		}
		wantText(t, b.Remove(t.Context(), "kept", "", false), "in use on node node-a")
		_, err = b.Restore(t.Context(), "web", "")
		must(t, err)
		if d.has(memberDir(0)) || !d.has(memberDir(2)) {
			t.Error("the node that came back has not joined anew")
		}
	})
}

// TestForgetStopped: a driver that was stopped may be forgotten at once.
func TestForgetStopped(t *testing.T) {
	a, b, _, _, _ := twoNodes(t)
	must(t, a.Create(t.Context(), "web", nil))
	_, err := a.Mount(t.Context(), "web", "1")
	must(t, err)
	must(t, a.Close())
	b.stores[0].beat(t.Context())
	wantText(t, b.Remove(t.Context(), "web", "", false), "its driver does not run")
	must(t, b.Forget(t.Context(), "node-a"))
	must(t, b.Remove(t.Context(), "web", "", false))
}

// TestClash has two machines of one id: the second does not serve the store.
func TestClash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		start := func(boot string) *Manager {
			m := newNode(t, "node-a", d).start(t)
			m.stores[0].pulse.own.Boot, m.stores[0].pulse.own.Host = boot, "host of "+boot
			m.stores[0].pulse.own.Session = "session of " + boot
			return m
		}
		beats := func(ctx context.Context, m *Manager) {
			for ctx.Err() == nil {
				m.stores[0].beat(ctx)
				time.Sleep(beatPause)
			}
		}
		first := start("boot 1")
		must(t, first.stores[0].refresh(t.Context()))
		ctx, stop := context.WithCancel(t.Context())
		go beats(ctx, first)
		time.Sleep(time.Second)

		second := start("boot 2")
		_, err := second.stores[0].connect(t.Context())
		if _, found := errors.AsType[*ClashError](err); !found {
			t.Errorf("the second: %v", err)
		}
		wantText(t, err, "host of boot 1")
		wantText(t, err, "node-id")
		must(t, first.Create(t.Context(), "web", nil))

		// Behind a reboot, it is the same machine.
		stop()
		synctest.Wait()
		time.Sleep(time.Minute)
		began := time.Now()
		_, err = second.stores[0].connect(t.Context())
		must(t, err)
		if waited := time.Since(began); waited < clashTime || waited > 2*clashTime {
			t.Errorf("it watched for %s", waited)
		}

		// Both are there all the same: one goes.
		second.stores[0].beat(t.Context())
		first.stores[0].beat(t.Context())
		second.stores[0].beat(t.Context())
		first.stores[0].beat(t.Context())
		_, errFirst := first.stores[0].connect(t.Context())
		_, errSecond := second.stores[0].connect(t.Context())
		if (errFirst == nil) == (errSecond == nil) {
			t.Errorf("the first: %v, the second: %v", errFirst, errSecond)
		}
	})
}

// TestContainerOfUnknownVolume: a node whose state was lost, and whose listing has
// a hole, does not take back what an earlier session has published.
func TestContainerOfUnknownVolume(t *testing.T) {
	a, b, nodeA, _, d := twoNodes(t)
	db := map[string][]ContainerRef{"web": {{ID: "1f", Name: "db", State: "exited"}}}
	must(t, b.Create(t.Context(), "web", nil))
	must(t, a.stores[0].refresh(t.Context()))
	a.SetContainers(db)
	must(t, a.reconcile(t.Context(), a.stores[0]))
	must(t, os.RemoveAll(filepath.Join(nodeA.config.StateDir, "known")))
	d.hide("web.json", true)
	again := nodeA.restart(t, a)
	must(t, again.stores[0].refresh(t.Context()))
	again.SetContainers(db)
	must(t, again.reconcile(t.Context(), again.stores[0]))
	wantText(t, b.Remove(t.Context(), "web", "", false), "by container db (exited)")
	d.hide("web.json", false)
	again.SetContainers(nil)
	must(t, again.reconcile(t.Context(), again.stores[0]))
	must(t, b.Remove(t.Context(), "web", "", false))
}

// TestHeartOnFullStore: a store that takes no new file carries heartbeats.
func TestHeartOnFullStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, _, d := twoNodes(t)
		d.set(func(_ context.Context, op, name string) error {
			if op == "create" {
				return failWith(unix.ENOSPC)(t.Context(), op, name)
			}
			return nil
		})
		for range 20 {
			time.Sleep(beatPause)
			a.stores[0].beat(t.Context())
			b.stores[0].beat(t.Context())
			for _, m := range []*Manager{a, b} {
				nodes, err := m.Nodes(t.Context())
				must(t, err)
				for _, n := range nodes {
					if n.State != "alive" && n.State != "this node" {
						t.Fatalf("nodes: %+v", nodes)
					}
				}
			}
		}
		time.Sleep(aliveTime)
		b.stores[0].beat(t.Context())
		if nodes, err := b.Nodes(t.Context()); err != nil || nodes[0].State != "silent" {
			t.Errorf("a node that beats no more: %+v, %v", nodes, err)
		}
	})
}

// TestHundredNodes: a heartbeat costs no more than with ten, and who is alive is told from
// who is not all the same.
func TestHundredNodes(t *testing.T) {
	const nodes, dead = 100, 70
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		m := newNode(t, "node-a", d).start(t)
		must(t, m.stores[0].refresh(t.Context()))
		others := make([]*catalog, nodes)
		for i := range others {
			others[i] = d.catalog(t, Node{ID: fmt.Sprint("other", i), Session: "1"})
		}
		looks, most := 0, 0
		d.set(func(_ context.Context, op, _ string) error {
			if op == "lstat" {
				looks++
			}
			return nil
		})
		for beat := range 40 {
			time.Sleep(beatPause)
			for i, other := range others {
				if i != dead || beat < 5 {
					must(t, other.beat(t.Context()))
				}
			}
			looks = 0
			m.stores[0].beat(t.Context())
			if beat > 0 {
				most = max(most, looks)
			}
		}
		if most > 35 { // two a node that is heard, and its own
			t.Errorf("a beat took %d looks", most)
		}
		list, err := m.Nodes(t.Context())
		must(t, err)
		for _, n := range list {
			want := "alive"
			switch n.Node {
			case "node-a":
				want = "this node"
			case fmt.Sprint("other", dead):
				want = "silent"
			}
			if n.State != want {
				t.Errorf("%s is %s, want %s", n.Node, n.State, want)
			}
		}
	})
}

// TestSameBoot: a driver that is started again does not wait.
func TestSameBoot(t *testing.T) {
	a, _, nodeA, _, _ := twoNodes(t)
	start := time.Now()
	nodeA.config.Node.Session += "+" // killed, so that its file is still there
	again := nodeA.start(t)
	must(t, again.stores[0].refresh(t.Context()))
	again.stores[0].beat(t.Context())
	if waited := time.Since(start); waited > beatPause {
		t.Errorf("it took %s", waited)
	}
	if lines := nodeA.logs.with("level=WARN"); len(lines) > 0 {
		t.Error(strings.Join(lines, "\n"))
	}
	_ = a
}

// TestStoppedContainer: a container that is stopped keeps its volume from being
// removed elsewhere, also while its node's driver does not know of it again yet.
func TestStoppedContainer(t *testing.T) {
	a, b, nodeA, _, _ := twoNodes(t)
	nodeA.config.AwaitContainers = true
	must(t, a.Create(t.Context(), "web", nil))
	db := ContainerRef{ID: "1f", Name: "db", State: "exited"}
	a.SetContainers(map[string][]ContainerRef{"web": {db}, "elsewhere": {db}})
	must(t, a.reconcile(t.Context(), a.stores[0]))
	refused := func() {
		t.Helper()
		wantText(t, b.Remove(t.Context(), "web", "", false), "in use on node node-a by container db (exited)")
	}
	refused()
	again := nodeA.restart(t, a)
	for range 2 {
		must(t, again.reconcile(t.Context(), again.stores[0]))
		refused()
		again.SetContainers(map[string][]ContainerRef{"web": {db}})
	}
	db.State = "running"
	again.SetContainers(map[string][]ContainerRef{"web": {db}})
	must(t, again.reconcile(t.Context(), again.stores[0]))
	wantText(t, b.Remove(t.Context(), "web", "", false), "by container db (running)")
	again.SetContainers(nil)
	for range 2 {
		must(t, again.reconcile(t.Context(), again.stores[0]))
	}
	must(t, b.Remove(t.Context(), "web", "", false))
}

// TestReferenceNotPublished: a driver that starts on a volume in use, while another
// node tries to remove that, does not forget the reference of the earlier session.
func TestReferenceNotPublished(t *testing.T) {
	a, b, nodeA, _, d := twoNodes(t)
	must(t, a.Create(t.Context(), "web", nil))
	_, err := a.Mount(t.Context(), "web", "1")
	must(t, err)
	nodeA.config.Node.Session += "+"
	nodeA.clients.restart()
	again := nodeA.start(t)
	must(t, again.stores[0].refresh(t.Context()))
	web, _ := again.stores[0].get("web")
	catB, err := b.stores[0].connect(t.Context())
	must(t, err)
	number, _ := catB.members.joined()
	tombstone := tombstoneFile(web.entry(), number)
	d.write(t, tombstone, "{}")
	must(t, again.reconcile(t.Context(), again.stores[0]))
	must(t, catB.fs.Remove(t.Context(), tombstone))
	must(t, again.Unmount(t.Context(), "web", "1"))
	must(t, again.reconcile(t.Context(), again.stores[0]))

	// Nor one that it has found there and did not get to keep.
	own, err := again.stores[0].connect(t.Context())
	must(t, err)
	number, _ = own.members.joined()
	d.write(t, referenceFile(number, web.ID), `{"volume": "web", "id": "`+web.ID+`"}`)
	d.write(t, tombstone, "{}")
	if err := own.refer(t.Context(), web); !errors.Is(err, errRemoving) {
		t.Errorf("refer to what is about to be removed: %v", err)
	}
	must(t, catB.fs.Remove(t.Context(), tombstone))
	must(t, again.reconcile(t.Context(), again.stores[0]))
	must(t, b.Remove(t.Context(), "web", "", false))
}

// TestFilledVolume: Docker mounts and unmounts a volume to fill it before it
// lists the container that it is for.
func TestFilledVolume(t *testing.T) {
	a, b, nodeA, _, _ := twoNodes(t)
	nodeA.config.AwaitContainers = true
	a = nodeA.restart(t, a)
	a.SetContainers(nil)
	must(t, a.Create(t.Context(), "web", nil))
	refused := func() {
		t.Helper()
		must(t, a.reconcile(t.Context(), a.stores[0]))
		wantText(t, b.Remove(t.Context(), "web", "", false), "in use on node node-a")
	}
	for range 3 { // each time it counts from the beginning
		_, err := a.Mount(t.Context(), "web", "1")
		must(t, err)
		refused()
		must(t, a.Unmount(t.Context(), "web", "1"))
		refused()
	}
	a.SetContainers(map[string][]ContainerRef{"web": {{ID: "1f", Name: "db", State: "created"}}})
	refused()
	refused()
	a.SetContainers(nil)
	refused()
	must(t, a.reconcile(t.Context(), a.stores[0]))
	must(t, b.Remove(t.Context(), "web", "", false))
}

// TestReferenceUnderWay: a driver that cleans up what an earlier one has left
// does not take a reference that it is about to write for such.
func TestReferenceUnderWay(t *testing.T) {
	a, b, _, _, d := twoNodes(t)
	must(t, a.Create(t.Context(), "web", nil))
	must(t, a.stores[0].refresh(t.Context()))
	web, _ := a.stores[0].get("web")
	must(t, a.reconcile(t.Context(), a.stores[0]))
	cat, err := a.stores[0].connect(t.Context())
	must(t, err)
	cat.references.clean = false
	number, _ := cat.members.joined()
	d.write(t, referenceFile(number, web.ID), "")
	unlock, free := a.names.tryLock("web") // a mount is under way
	if !free {
		t.Fatal("the name is held")
	}
	must(t, a.reconcile(t.Context(), a.stores[0]))
	wantText(t, b.Remove(t.Context(), "web", "", false), "a mount or a container that it has not named yet")
	unlock()
	must(t, a.reconcile(t.Context(), a.stores[0]))
	must(t, b.Remove(t.Context(), "web", "", false))
}

// TestAllNames: who holds all names is alone.
func TestAllNames(t *testing.T) {
	locks := newNameLocks()
	unlock, ok := locks.tryLock("web")
	if !ok {
		t.Fatal("a name that is free cannot be taken")
	}
	if _, ok := locks.tryLock(allNames); ok {
		t.Error("all names are taken while one is held")
	}
	unlock()
	unlock, ok = locks.tryLock(allNames)
	if !ok {
		t.Fatal("all names are free and cannot be taken")
	}
	if _, ok := locks.tryLock("web"); ok {
		t.Error("a name is taken while all are held")
	}
	unlock()
	if _, ok := locks.tryLock("web"); !ok {
		t.Error("a name that is free again cannot be taken")
	}
}

// TestTellingBlocksNobody: while a node cannot tell others what a volume is used
// for, Docker can unmount it.
func TestTellingBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, _, _, d := twoNodes(t)
		must(t, a.Create(t.Context(), "web", nil))
		_, err := a.Mount(t.Context(), "web", "1")
		must(t, err)
		a.SetContainers(map[string][]ContainerRef{"web": {{ID: "1f", Name: "db", State: "running"}}})
		d.set(func(ctx context.Context, op, name string) error {
			if op == "create" {
				return hang(ctx, op, name)
			}
			return nil
		})
		ended := make(chan error)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), backgroundTime)
			defer cancel()
			ended <- a.reconcile(ctx, a.stores[0])
		}()
		synctest.Wait()
		start := time.Now()
		must(t, a.Unmount(t.Context(), "web", "1"))
		if waited := time.Since(start); waited > 0 {
			t.Errorf("the unmount took %s", waited)
		}
		if err := <-ended; err == nil {
			t.Error("nothing was to be told")
		}
	})
}
