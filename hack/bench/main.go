// Command bench measures what a user of the driver pays, on a cluster of three
// real nodes that hack/cluster starts, and holds it against what the same machine does
// without the driver in the same run. Absolute times drift on a shared machine; what
// counts are ratios.
//
//	bench [-quick] [-volumes N] [-rounds N] [-out DIR] [FIGURE...]
//
// It prints a table, and writes bench.json and volumes.svg.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// settings are the flags.
type settings struct {
	quick bool
	// volumes is the largest number of volumes that the store has.
	volumes int
	// files is how many are in the large volume.
	files int
	// rounds is how often what is quick is measured.
	rounds int
	out    string
}

// section measures figures that have to do with each other.
type section struct {
	name string
	run  func(context.Context, *bench) error
}

var sections = []section{
	{"calls", calls},
	{"first", firstMount},
	{"docker", docker},
	{"io", inputOutput},
	{"purge", purge},
	{"heal", heal},
	{"many", many},
	{"capacity", capacity},
}

func main() {
	var s settings
	flag.BoolVar(&s.quick, "quick", false, "few rounds and volumes: whether it all works, not how fast")
	flag.IntVar(&s.volumes, "volumes", 10000, "the largest number of volumes")
	flag.IntVar(&s.files, "files", 100000, "files in the large volume")
	flag.IntVar(&s.rounds, "rounds", 200, "how often a quick call is measured")
	flag.StringVar(&s.out, "out", "bin/bench", "directory for bench.json and volumes.svg")
	flag.Parse()
	if s.quick {
		s.volumes, s.files, s.rounds = 200, 500, 10
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, s, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures the sections that are named, or all.
func run(ctx context.Context, s settings, names []string) (err error) {
	for _, name := range names {
		if !slices.ContainsFunc(sections, func(one section) bool { return one.name == name }) {
			return fmt.Errorf("no section %q", name)
		}
	}
	state := filepath.Join("/var/lib/glustervol-bench", fmt.Sprint(os.Getpid()))
	bricks := []string{"node1", "node2", "node3"}
	if s.quick {
		bricks = bricks[:1]
	}
	c, err := startCluster(ctx, state, bricks...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.down()) }()
	b := &bench{settings: s, cluster: c, report: report{Begun: time.Now().UTC(), Machine: describeMachine(len(bricks))}}
	for _, one := range sections {
		if len(names) > 0 && !slices.Contains(names, one.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s (%s so far)\n", one.name, time.Since(b.report.Begun).Round(time.Second))
		if err := one.run(ctx, b); err != nil {
			b.report.print(os.Stdout) // it may have taken half an hour
			return fmt.Errorf("%s: %w", one.name, err)
		}
	}
	b.report.print(os.Stdout)
	return b.report.write(s.out)
}

// bench is one run.
type bench struct {
	settings
	cluster *cluster
	report  report
}

func describeMachine(bricks int) string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d cores, Linux %s, three nodes, %d of them with a brick, on one disk", cores(), strings.TrimSpace(string(kernel)), bricks)
}
