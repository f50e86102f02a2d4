package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
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
	driver, files, err := n.driverMemory()
	if err != nil {
		return err
	}
	clients, err := n.memory(ctx, "glusterfs", "/run/glustervol/clients")
	if err != nil {
		return err
	}
	of := fmt.Sprintf("%d mounted volumes of %d", len(names), known)
	b.report.atMost("clients for "+of, float64(len(clients)), 1, "client", fmt.Sprintf("%.0f MB", sum(clients)))
	b.report.atMost("driver's memory for "+of, driver, 40, "MB", fmt.Sprintf("resident; %.0f of them mapped files, the program and libraries", files))
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

// driverMemory is the driver's resident memory in MB, and what of it are mapped files.
func (n *node) driverMemory() (all, files float64, err error) {
	pid, found := n.process("glustervol")
	if !found {
		return 0, 0, errors.New("no driver runs on " + n.name)
	}
	data, err := os.ReadFile("/proc/" + pid + "/status")
	for line := range strings.Lines(string(data)) {
		var kilobytes float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %g kB", &kilobytes); n == 1 {
			all = kilobytes / 1024
		}
		if n, _ := fmt.Sscanf(line, "RssFile: %g kB", &kilobytes); n == 1 {
			files = kilobytes / 1024
		}
	}
	return all, files, err
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
	alone, err := n.programStart(ctx)
	if err != nil {
		return err
	}
	b.report.sampled("glustervol version", alone)
	b.report.sampled("driver start until its socket is open", open)
	b.report.sampled("driver start until it knows all volumes", complete)
	b.report.sampled("… on a node that knew none", fresh)
	with := fmt.Sprintf("%d volumes; median", len(all.Volumes))
	b.report.atMost("driver start, socket open", open.median(), 50, "ms", with+fmt.Sprintf("; %.0f ms for 'glustervol version'", alone.median()))
	b.report.atMost("driver start, complete", complete.median()/1000, 3, "s", with+"; from the program's start, store asked")
	b.report.atMost("driver start, complete, of a new node", fresh.median()/1000, 3, "s", with)
	return nil
}

func restartDriver(ctx context.Context, n *node, volumes int, forget bool) (open, complete time.Duration, err error) {
	start, err := n.driverCommand()
	if err != nil {
		return 0, 0, err
	}
	if err := n.cluster.run(ctx, "kill", n.name, "glustervol"); err != nil {
		return 0, 0, err
	}
	for _, found := n.process("glustervol"); found && ctx.Err() == nil; _, found = n.process("glustervol") {
		time.Sleep(time.Millisecond)
	}
	if forget {
		if err := os.RemoveAll(filepath.Join(n.cluster.state, n.name, "driver/known")); err != nil {
			return 0, 0, err
		}
	}
	begin := time.Now()
	if err := start.Start(); err != nil {
		return 0, 0, err
	}
	go func() { _ = start.Wait() }() // it is killed at the end
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
	return open, time.Since(begin), ctx.Err()
}

// programStart measures the program's own start, of which the driver's is a part.
func (n *node) programStart(ctx context.Context) (t times, err error) {
	driver, err := n.driverCommand()
	if err != nil {
		return nil, err
	}
	program := driver.Args[slices.Index(driver.Args, "--")+1]
	for range 20 {
		if err := take(&t, n.command(ctx, program, "version").Run); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// driverCommand starts a driver as the one that runs was started, and without hack/cluster's
// script, which does other things meanwhile.
func (n *node) driverCommand() (*exec.Cmd, error) {
	pid, found := n.process("glustervol")
	if !found {
		return nil, errors.New("no driver runs on " + n.name)
	}
	args, err := words("/proc/" + pid + "/cmdline")
	if err != nil {
		return nil, err
	}
	cmd := n.command(context.Background(), args...)
	if cmd.Env, err = words("/proc/" + pid + "/environ"); err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, nil
}

// command is one of the node, as hack/cluster's exec is.
func (n *node) command(ctx context.Context, args ...string) *exec.Cmd {
	room := []string{"--target", filepath.Base(filepath.Dir(n.root)), "--mount", "--uts", "--ipc", "--net", "--pid", "--wd=/", "--"}
	return exec.CommandContext(ctx, "nsenter", append(room, args...)...)
}

// words are those of a process's command line or environment in /proc.
func words(file string) ([]string, error) {
	data, err := os.ReadFile(file)
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00"), err
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

// knows tells whether the driver has reached its store, and knows so many volumes.
func (n *node) knows(ctx context.Context, volumes int) bool {
	info, err := n.admin.Info(ctx)
	if err != nil || len(info.Stores) == 0 {
		return false
	}
	s := info.Stores[0]
	return s.Reached && s.Trouble == "" && s.Volumes >= volumes
}
