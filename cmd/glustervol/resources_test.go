package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/glustervol/glustervol/hack/testnode"
)

// footprint is what a driver holds of the machine, counted from outside, by what it
// is.
type footprint map[string]int

// takeFootprint counts what a driver, its Gluster clients and containers hold. What
// ends meanwhile counts as nothing; a wait looks again.
func takeFootprint(t testing.TB, d *driver, containers ...string) footprint {
	t.Helper()
	data, control := clientProcesses()
	clients := slices.Concat(data, control)
	own := d.daemon.PID()
	f := footprint{
		"goroutines":               goroutines(t),
		"zombies of the driver":    zombies(own),
		"zombies of the clients":   zombies(clients...),
		"clients":                  len(clients),
		"mounts":                   lines("/proc/self/mountinfo"),
		"files in /run/glustervol": len(glob("/run/glustervol/*/*")) + len(glob("/run/glustervol/clients/*/*")),
	}
	for _, name := range containers {
		f["mounts of containers"] += lines(fmt.Sprintf("/proc/%s/mountinfo", docker(t, "inspect", "--format={{.State.Pid}}", name)))
	}
	f.addProcess("driver", own)
	for _, pid := range clients {
		f.addProcess("clients", pid)
	}
	return f
}

// addProcess counts what a process holds for whose it is.
func (f footprint) addProcess(whose string, pid int) {
	f["descriptors of the "+whose] += len(glob(fmt.Sprintf("/proc/%d/fd/*", pid)))
	f["threads of the "+whose] += len(glob(fmt.Sprintf("/proc/%d/task/*", pid)))
	var size, resident int // in pages (proc_pid_statm(5))
	if statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid)); err == nil {
		_, _ = fmt.Sscan(string(statm), &size, &resident)
	}
	f["resident kB of the "+whose] += resident * os.Getpagesize() / 1024
}

// beyond tells what is more than it was, by more than is allowed.
func (f footprint) beyond(before, allowed footprint) (more []string) {
	for _, what := range slices.Sorted(maps.Keys(f)) {
		if f[what] > before[what]+allowed[what] {
			more = append(more, fmt.Sprintf("%d %s, before %d, allowed %d more", f[what], what, before[what], allowed[what]))
		}
	}
	return more
}

// awaitFootprint waits until a driver holds no more than it did before, but for what
// is allowed.
func awaitFootprint(t testing.TB, before, allowed footprint, take func() footprint) {
	t.Helper()
	var now footprint
	defer func() {
		t.Logf("before: %v", before)
		t.Logf("after:  %v", now)
		for _, more := range now.beyond(before, allowed) {
			t.Error("left behind:", more)
		}
	}()
	testnode.Eventually(t, "nothing is left behind", func() bool {
		now = take()
		return len(now.beyond(before, allowed)) == 0
	})
}

func glob(pattern string) []string {
	names, _ := filepath.Glob(pattern) // the pattern is good
	return names
}

func lines(file string) int {
	text, _ := os.ReadFile(file) // of a process that has ended there are none
	return strings.Count(string(text), "\n")
}

// zombies are the children of processes that have ended and were not waited for. Each
// Gluster client has one: it forks a child to mount, and leaves it at that.
func zombies(parents ...int) (count int) {
	for _, file := range glob("/proc/[0-9]*/stat") {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended, and was waited for
		}
		// proc_pid_stat(5): behind the name, in parentheses, state and parent.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if parent, err := strconv.Atoi(fields[1]); err == nil && fields[0] == "Z" && slices.Contains(parents, parent) {
			count++
		}
	}
	return count
}

// goroutines are those of the driver, as it tells on the admin socket.
func goroutines(t testing.TB) (total int) {
	t.Helper()
	text := profile(t, "goroutine?debug=1")
	if _, err := fmt.Sscanf(text, "goroutine profile: total %d\n", &total); err != nil {
		t.Errorf("goroutines: %v: %.100s", err, text)
	}
	return total
}

// profile is one of Go's profiles of the driver.
func profile(t testing.TB, name string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", "/run/glustervol/admin.sock")
		},
	}}
	response, err := client.Get("http://glustervol/debug/pprof/" + name)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// tryAskOK is tryAsk with the error in the answer as an error.
func tryAskOK(ctx context.Context, method, body string) (answer, error) {
	a, err := tryAsk(ctx, method, body)
	if err = errors.Join(err, a.err()); err != nil {
		err = fmt.Errorf("%s %s: %w", method, body, err)
	}
	return a, err
}

// mountOnce mounts a volume, looks at it, and unmounts it.
func mountOnce(ctx context.Context, volume, id string) error {
	body := fmt.Sprintf(`{"Name": %q, "ID": %q}`, volume, id)
	a, err := tryAskOK(ctx, "Mount", body)
	if err != nil {
		return err
	}
	_, err = os.ReadDir(a.Mountpoint)
	_, unmountErr := tryAskOK(ctx, "Unmount", body)
	return errors.Join(err, unmountErr)
}

// mountRounds are how often a volume is mounted and unmounted.
type mountRounds struct {
	killed  int // how often the client is killed and the container healed
	perKill int // mounts behind each of these
	kept    int // on a client that stays
	ended   int // on a client that ends behind it, and is started again
}

// sharing are the volumes that share a client with that of the container.
var sharing = []string{"web", "shared0", "shared1", "shared2"}

func (r mountRounds) run(t *testing.T) {
	t.Helper()
	for round := range r.killed {
		killClient(t, "web")
		awaitHealed(t, "box", fmt.Sprintf("echo %d > /data/f && cat /data/f", round), fmt.Sprint(round))
		for i := range r.perKill {
			if err := mountOnce(t.Context(), sharing[i%len(sharing)], fmt.Sprint(round, i)); err != nil {
				t.Error(err)
			}
		}
	}
	var wg sync.WaitGroup
	for i, v := range sharing {
		wg.Go(func() {
			for round := range r.kept / len(sharing) {
				if err := mountOnce(t.Context(), v, fmt.Sprint(i, round)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for round := range r.ended {
		if err := mountOnce(t.Context(), "alone", fmt.Sprint(round)); err != nil {
			t.Error(err)
		}
		testnode.Eventually(t, "the client ends", func() bool { data, _ := clientProcesses(); return len(data) == 1 })
	}
	wg.Wait()
}

// TestThousandMounts mounts and unmounts volumes a thousand times, under a container,
// while clients come, go and die, and counts before and after.
func TestThousandMounts(t *testing.T) {
	_, d := startNode(t)
	for _, v := range sharing {
		create(t, v)
	}
	create(t, "alone", "client-options=noatime")
	startContainer(t, "box", "-v=web:/data")
	take := func() footprint { return takeFootprint(t, d, "box") }

	mountRounds{killed: 2, perKill: 4, kept: 100, ended: 4}.run(t) // to be warm
	before := take()
	const killed = 10
	mountRounds{killed: killed, perKill: 4, kept: 900, ended: 60}.run(t) // 1,000 mounts
	awaitFootprint(t, before, footprint{
		"goroutines":                 4,
		"descriptors of the driver":  3,
		"descriptors of the clients": 3,
		"threads of the driver":      8,
		"threads of the clients":     20, // Gluster keeps them for two minutes
		"mounts":                     killed,
		"files in /run/glustervol":   killed, // a death may be remembered for a while, but not in the container
		"resident kB of the driver":  8 << 10,
		"resident kB of the clients": 8 << 10,
	}, take)
	docker(t, "rm", "--force", "box")
	expectUnused(t, append(sharing, "alone")...)
	testnode.Eventually(t, "nothing of the clients is left", func() bool {
		table, err := os.ReadFile("/proc/self/mountinfo")
		return err == nil && !strings.Contains(string(table), "fuse.glusterfs") && len(glob("/run/glustervol/clients/*")) == 0
	})
}
