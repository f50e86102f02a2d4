package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mountedVolumes is how many volumes are mounted at once.
const mountedVolumes = 1000

// many measures what a store with many volumes costs.
func many(ctx context.Context, b *bench) error {
	n := b.cluster.nodes[0]
	made := 0
	for _, count := range steps(b.volumes) {
		var names []string
		for ; made < count; made++ {
			names = append(names, fmt.Sprint("many", made))
		}
		if err := n.create(ctx, names); err != nil {
			return err
		}
		if err := b.measurePoint(ctx, n, count); err != nil {
			return err
		}
		if count == mountedVolumes && count < b.volumes {
			if err := mounted(ctx, b, count); err != nil {
				return err
			}
		}
	}
	last := b.report.Points[len(b.report.Points)-1]
	b.report.atMost(fmt.Sprintf("List of %d volumes", b.volumes), last.List, 30, "ms", "median")
	b.report.atMost(fmt.Sprintf("Get among %d volumes", b.volumes), last.Get, 1, "ms", "median")
	first := b.report.Points[0]
	b.report.atMost("idle operations a second, against 10 volumes", last.Idle/first.Idle, 1.2, "times",
		fmt.Sprintf("%.1f and %.1f a second on each brick, for three nodes", first.Idle, last.Idle))
	return errors.Join(seenElsewhere(ctx, b), mounted(ctx, b, b.volumes), driverStart(ctx, b))
}

// steps are the numbers of volumes to look at: 10, 100, …, most.
func steps(most int) (list []int) {
	for n := 10; n < most; n *= 10 {
		list = append(list, n)
	}
	return append(list, most)
}

func (b *bench) measurePoint(ctx context.Context, n *node, count int) error {
	hand, err := n.byHand(ctx, "/run/hand")
	if err != nil {
		return err
	}
	if _, err := n.call(ctx, "Mount", request{Name: "many0", ID: "keeper"}); err != nil {
		return err
	}
	var t callTimes
	rounds := max(b.rounds/4, 5)
	for i := range rounds {
		if err := t.round(ctx, n, hand, fmt.Sprintf("point%d-%d", count, i)); err != nil {
			return err
		}
	}
	// What is answered from memory by itself, and not while the bricks do what was asked before.
	var list, get times
	for range rounds {
		if err := errors.Join(n.list(ctx, &list, count), take(&get, func() error { _, err := n.call(ctx, "Get", request{Name: "many0"}); return err })); err != nil {
			return err
		}
	}
	if _, err := n.call(ctx, "Unmount", request{Name: "many0", ID: "keeper"}); err != nil {
		return err
	}
	if err := n.run(ctx, "umount", "/run/hand"); err != nil {
		return err
	}
	idle, err := b.idle(ctx, n)
	if err != nil {
		return err
	}
	b.report.Points = append(b.report.Points, point{
		count, t.create.median(), t.mount.median(), list.median(), get.median(), t.mkdir.median(), idle,
	})
	return nil
}

// list takes the time of a List, which has count volumes or more.
func (n *node) list(ctx context.Context, t *times, count int) error {
	var data []byte
	err := take(t, func() (err error) {
		data, err = n.ask(ctx, "List", request{})
		return err
	})
	if err != nil {
		return err
	}
	var all answer
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	if len(all.Volumes) < count {
		return fmt.Errorf("%d volumes are listed, not %d", len(all.Volumes), count)
	}
	return nil
}

// idle is how many operations a second a brick carries out while nobody does anything.
func (b *bench) idle(ctx context.Context, n *node) (float64, error) {
	window := 30 * time.Second
	if b.quick {
		window = 5 * time.Second
	}
	if err := n.startCounting(ctx); err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(window):
	}
	done, err := n.counted(ctx)
	return done.sum() / window.Seconds(), errors.Join(err, n.stopCounting(ctx))
}

// seenElsewhere measures how long after its creation the other nodes list a volume.
func seenElsewhere(ctx context.Context, b *bench) error {
	var seen times
	for i := range max(b.rounds/4, 5) {
		name := fmt.Sprint("seen", i)
		if _, err := b.cluster.nodes[0].call(ctx, "Create", request{Name: name}); err != nil {
			return err
		}
		begin := time.Now()
		for _, n := range b.cluster.nodes[1:] {
			if err := awaitListed(ctx, n, name); err != nil {
				return err
			}
		}
		seen = append(seen, time.Since(begin))
	}
	b.report.sampled("a new volume is listed on the other nodes", seen)
	b.report.atMost("a new volume seen on the other nodes", seen.quantile(0.99)/1000, 2, "s", "p99, both others")
	return nil
}

func awaitListed(ctx context.Context, n *node, name string) error {
	for {
		list, err := n.call(ctx, "List", request{})
		if err != nil {
			return err
		}
		for _, v := range list.Volumes {
			if v.Name == name {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond): // to list thousands takes time from the drivers
		}
	}
}

// mounted measures the memory of a driver with many mounts, and counts the clients.
func mounted(ctx context.Context, b *bench, known int) error {
	n := b.cluster.nodes[0]
	var names []string
	for i := range min(mountedVolumes, b.volumes) {
		names = append(names, fmt.Sprint("many", i))
	}
	err := atOnce(8, names, func(name string) error {
		_, err := n.call(ctx, "Mount", request{Name: name, ID: "bench"})
		return err
	})
	if err != nil {
		return err
	}
	driver, err := n.memory(ctx, "glustervol")
	if err != nil {
		return err
	}
	clients, err := n.memory(ctx, "glusterfs", "/run/glustervol/clients")
	if err != nil {
		return err
	}
	of := fmt.Sprintf("%d mounted volumes of %d", len(names), known)
	b.report.atMost("clients for "+of, float64(len(clients)), 1, "client", fmt.Sprintf("%.0f MB", sum(clients)))
	b.report.atMost("driver's memory for "+of, sum(driver), 40, "MB", "resident")
	return atOnce(8, names, func(name string) error {
		_, err := n.call(ctx, "Unmount", request{Name: name, ID: "bench"})
		return err
	})
}

func sum(list []float64) (total float64) {
	for _, one := range list {
		total += one
	}
	return total
}

// memory is the resident memory in MB of each of the node's processes of a program whose
// command line has all of the words.
func (n *node) memory(ctx context.Context, program string, words ...string) ([]float64, error) {
	out, err := n.output(ctx, "ps", "-C", program, "-o", "rss=,args=")
	if err != nil {
		return nil, err
	}
	var list []float64
	for line := range strings.Lines(out) {
		if slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			continue
		}
		kilobytes, err := strconv.ParseFloat(strings.Fields(line)[0], 64)
		if err != nil {
			return nil, err
		}
		list = append(list, kilobytes/1024)
	}
	return list, nil
}

// driverStart measures the start of a driver until dockerd can ask it, and until it
// knows all volumes: once as after an upgrade, and once on a node that knows nothing.
func driverStart(ctx context.Context, b *bench) error {
	n := b.cluster.nodes[1]
	all, err := n.call(ctx, "List", request{})
	if err != nil {
		return err
	}
	var open, complete, fresh times
	for i := range max(b.rounds/30, 2) {
		forget := i%2 == 1
		o, c, err := restartDriver(ctx, n, len(all.Volumes), forget)
		if err != nil {
			return err
		}
		open = append(open, o)
		if forget {
			fresh = append(fresh, c)
		} else {
			complete = append(complete, c)
		}
	}
	b.report.sampled("driver start until its socket is open", open)
	b.report.sampled("driver start until it knows all volumes", complete)
	b.report.sampled("… on a node that knew none", fresh)
	with := fmt.Sprintf("%d volumes; median", len(all.Volumes))
	b.report.atMost("driver start, socket open", open.median(), 50, "ms", with)
	b.report.atMost("driver start, complete", complete.median()/1000, 3, "s", with+"; from the program's start, store asked")
	b.report.atMost("driver start, complete, of a new node", fresh.median()/1000, 3, "s", with)
	return nil
}

func restartDriver(ctx context.Context, n *node, volumes int, forget bool) (open, complete time.Duration, err error) {
	killed := time.Now()
	if err := n.cluster.run(ctx, "kill", n.name, "glustervol"); err != nil {
		return 0, 0, err
	}
	if forget {
		if err := os.RemoveAll(filepath.Join(n.cluster.state, n.name, "driver/known")); err != nil {
			return 0, 0, err
		}
	}
	up := make(chan error, 1)
	go func() { up <- n.cluster.run(ctx, "up", n.name) }()
	begin, err := n.driverBegin(ctx, killed)
	if err != nil {
		return 0, 0, errors.Join(err, <-up)
	}
	// Whoever looks takes time from the driver: a millisecond of each, and then little of each ten.
	for err = errors.New(""); err != nil && ctx.Err() == nil; time.Sleep(time.Millisecond) {
		var c net.Conn
		if c, err = net.Dial("unix", n.path("/run/docker/plugins/glustervol.sock")); err == nil {
			open = time.Since(begin)
			err = c.Close()
		}
	}
	for !n.knows(ctx, volumes) && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	return open, time.Since(begin), errors.Join(<-up, ctx.Err())
}

// driverBegin waits for the driver's process that is younger than since, as a killed one may be
// there for a moment, and tells when it began, by the kernel's clock ticks of 10 ms.
func (n *node) driverBegin(ctx context.Context, since time.Time) (time.Time, error) {
	for ctx.Err() == nil {
		if pid, found := n.process("glustervol"); found {
			begin, err := processBegin(pid)
			if err == nil && begin.After(since) {
				return begin, nil
			}
		}
		time.Sleep(time.Millisecond)
	}
	return time.Time{}, ctx.Err()
}

// process is the number of a process of the node, as this one sees it.
func (n *node) process(program string) (pid string, found bool) {
	own, err := os.Readlink(filepath.Join(filepath.Dir(n.root), "ns/mnt"))
	if err != nil {
		return "", false
	}
	comms, _ := filepath.Glob("/proc/[0-9]*/comm") // the pattern is good
	for _, comm := range comms {
		name, _ := os.ReadFile(comm)
		if string(name) != program+"\n" {
			continue
		}
		dir := filepath.Dir(comm)
		if its, err := os.Readlink(filepath.Join(dir, "ns/mnt")); err == nil && its == own {
			return filepath.Base(dir), true
		}
	}
	return "", false
}

func processBegin(pid string) (time.Time, error) {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return time.Time{}, err
	}
	// proc_pid_stat(5): field 22, in ticks since the boot; the name in field 2 may have blanks.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	ticks, err := strconv.ParseInt(fields[22-3], 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return time.Time{}, err
	}
	const tick = time.Second / 100
	return time.Now().Add(time.Duration(ticks)*tick - time.Duration(now.Nano())), nil
}

// knows tells whether the driver has reached its store, and knows so many volumes.
func (n *node) knows(ctx context.Context, volumes int) bool {
	info, err := n.admin.Info(ctx)
	if err != nil || len(info.Stores) == 0 {
		return false
	}
	s := info.Stores[0]
	return s.Reached && s.Trouble == "" && s.Volumes >= volumes
}
