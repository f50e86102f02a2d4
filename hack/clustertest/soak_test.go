package clustertest

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/volume"
)

var (
	soakTime = flag.Duration("soak.time", 2*time.Minute, "how long TestSoak works")
	soakSeed = flag.Uint64("soak.seed", 0, "what TestSoak's choices come from; 0: another one each time")
)

const (
	// soakKills is how many drivers are killed, however short the soak is.
	soakKills = 200
	// killPause is the mean time between two of them.
	killPause = 600 * time.Millisecond
	// workersPerNode work at the same time.
	workersPerNode = 2
)

// TestSoak puts a mixed load on three nodes while their drivers are killed again
// and again, and then looks whether everything that was acknowledged is there.
func TestSoak(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "--linger=1s")
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("make soak DURATION=%s SEED=%d", *soakTime, seed)
	over := make(chan struct{})
	var workers []*worker
	var group sync.WaitGroup
	for number := range workersPerNode * len(c.nodes) {
		w := &worker{t: t, ctx: t.Context(), c: c, number: number, random: rand.New(rand.NewPCG(seed, uint64(number))), done: map[string]int{}}
		workers = append(workers, w)
		group.Go(func() { w.run(over) })
	}
	kills := killDrivers(t, c, rand.New(rand.NewPCG(seed, soakKills)))
	close(over)
	group.Wait()

	found := checkAll(t, c, workers)
	done := map[string]int{}
	for _, w := range workers {
		for what, n := range w.done {
			done[what] += n
		}
	}
	verdict := "everything is there"
	if t.Failed() {
		verdict = "FAILED"
	}
	t.Logf("soak: seed %d, %s, %d drivers killed, operations %v, %s: %s", seed, *soakTime, kills, done, found, verdict)
}

// killDrivers kills the driver of one node after the other, at random moments,
// and starts it again, until the soak is over.
func killDrivers(t *testing.T, c *cluster, random *rand.Rand) (kills int) {
	for start := time.Now(); !t.Failed() && (time.Since(start) < *soakTime || kills < soakKills); kills++ {
		time.Sleep(time.Duration(random.Int64N(int64(2 * killPause))))
		c.nodes[random.IntN(len(c.nodes))].restartDriver(t)
	}
	return kills
}

// restartDriver kills the node's driver and starts it again at once, as systemd
// does. It does not wait until that serves: the next kill may come before.
func (n *node) restartDriver(t testing.TB) {
	t.Helper()
	pid := 0
	within(t, patience, n.name+" has a driver, which has not ended by itself", func() bool {
		for candidate, args := range testnode.Processes() {
			if strings.Contains(args, " serve --state-dir="+n.c.state+"/"+n.name+"/") && !strings.HasPrefix(args, "nsenter") {
				pid = candidate
			}
		}
		return pid != 0
	})
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	within(t, patience, "the driver's end", func() bool { return syscall.Kill(pid, 0) != nil })
	log, err := os.OpenFile(filepath.Join(n.c.state, n.name, "glustervol.log"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	defer log.Close()
	enter := []string{"--target", fmt.Sprint(n.pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--wd=/", "--", "env", "GLUSTERVOL_STORE=node1,node2,node3:/gv0"}
	cmd := exec.Command("nsenter", append(enter, strings.Split(strings.TrimRight(string(args), "\x00"), "\x00")...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	must(t, cmd.Start())
	go func() { _ = cmd.Wait() }() // it is killed, or ends with the node
}

// checkAll compares the store and all nodes with what was acknowledged, removes
// all volumes, and sees that nothing stays mounted.
func checkAll(t *testing.T, c *cluster, workers []*worker) (found string) {
	t.Helper()
	one := c.nodes[0]
	present, trashed := map[string]*ledger{}, map[string]*ledger{}
	files := 0
	for _, w := range workers {
		for _, v := range w.present {
			present[v.name] = v
			files += len(v.files)
		}
		for _, v := range w.trashed {
			trashed[v.entry()] = v
			files += len(v.files)
		}
	}
	for _, n := range c.nodes {
		within(t, patience, n.name+" serves", func() bool { return n.checkVolumes(t, present) == nil })
		if err := n.checkVolumes(t, present); err != nil {
			t.Errorf("%s: %v", n.name, err)
		}
	}
	within(t, patience, "nothing is under way", func() bool { return len(underWay(t, one)) == 0 })

	dir := "/run/soak"
	c.run("exec", "node1", "mkdir", "-p", dir)
	c.run("exec", "node1", "mount", "-t", "glusterfs", "node1:/gv0", dir)
	for name, v := range present {
		if err := v.check(one.path(dir + "/volumes/" + name)); err != nil {
			t.Error(err)
		}
	}
	for entry, v := range trashed {
		if err := v.check(one.path(dir + "/.glustervol/trash/" + entry)); err != nil {
			t.Errorf("in the trash: %v", err)
		}
	}
	checkNames(t, one.path(dir+"/volumes"), present, "")
	checkNames(t, one.path(dir+"/.glustervol/trash"), trashed, ".json")
	found = fmt.Sprintf("%d volumes, %d in the trash, %d files", len(present), len(trashed), files)
	checkUnused(t, c, present)
	return found
}

// checkVolumes compares what a node shows with what is there.
func (n *node) checkVolumes(t *testing.T, present map[string]*ledger) error {
	list, err := n.admin.List(t.Context())
	if err != nil {
		return err
	}
	for _, v := range list {
		if want := present[v.Name]; want == nil || want.id != v.ID {
			err = errors.Join(err, fmt.Errorf("shows volume %s with id %s, which nobody has made", v.Name, v.ID))
		}
	}
	if len(list) != len(present) {
		err = errors.Join(err, fmt.Errorf("shows %d volumes of %d", len(list), len(present)))
	}
	return err
}

// underWay is what operations have left on the store.
func underWay(t *testing.T, n *node) (left []string) {
	t.Helper()
	for _, pattern := range []string{"tombstones/*", "volumes/.*.claim", "trash/*.restoring*", "trash/*.purging*"} {
		names, err := filepath.Glob(n.brick(".glustervol/" + pattern))
		must(t, err)
		left = append(left, names...)
	}
	return left
}

// checkNames compares a directory of the store with what ought to be there, each
// with or without a record.
func checkNames(t *testing.T, dir string, want map[string]*ledger, record string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range list {
		if want[e.Name()] == nil && (record == "" || want[strings.TrimSuffix(e.Name(), record)] == nil) {
			t.Errorf("%s is on the store and nobody has made it", filepath.Join(dir, e.Name()))
		}
	}
}

// staleTime is for how long dockerd may take to start a container. A mount that
// it has forgotten, because the driver was killed when it asked, counts for so
// long (volume/manager_run.go).
const staleTime = 5 * time.Minute

// checkUnused removes all volumes, each on a node that counts it as mounted, if
// there is one, and sees that no node has anything mounted or referenced then.
func checkUnused(t *testing.T, c *cluster, present map[string]*ledger) {
	t.Helper()
	forgotten := 0
	for _, n := range c.nodes {
		list, err := users(t.Context(), n)
		must(t, err)
		for _, v := range list {
			if slices.Contains(v.Users, volume.ManualUser) {
				t.Errorf("%s counts volume %s as mounted by hand", n.name, v.Name)
			}
			forgotten++
		}
	}
	t.Logf("%d mounts that dockerd has forgotten", forgotten)
	within(t, staleTime+patience, "all volumes can be removed", func() bool {
		time.Sleep(time.Second)
		for _, n := range c.nodes {
			for name := range present {
				if err := n.admin.Remove(t.Context(), name, "", false); err == nil {
					delete(present, name)
				}
			}
		}
		return len(present) == 0
	})
	for _, n := range c.nodes {
		within(t, patience, n.name+" has let go of everything", func() bool {
			references, err := filepath.Glob(n.brick(".glustervol/nodes/*/????????????????.json"))
			must(t, err)
			info, err := n.admin.Info(t.Context())
			must(t, err)
			return len(references) == 0 && len(info.Clients) == 0
		})
		mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", n.pid))
		must(t, err)
		if strings.Contains(string(mounts), "/run/glustervol/clients") {
			t.Errorf("%s has a client mounted: %s", n.name, mounts)
		}
	}
}
