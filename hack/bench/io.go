package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/glustervol/glustervol/volume"
)

// ioJobs are what fio does, with the figure that counts of its result.
var ioJobs = []struct {
	name string
	args []string
	of   func(fioJob) float64
}{
	{"4k random reads", []string{"--rw=randread", "--bs=4k", "--direct=1", "--ioengine=libaio", "--iodepth=8"}, func(j fioJob) float64 { return j.Read.IOPS }},
	{"4k random writes", []string{"--rw=randwrite", "--bs=4k", "--direct=1", "--ioengine=libaio", "--iodepth=8"}, func(j fioJob) float64 { return j.Write.IOPS }},
	{"1M sequential reads", []string{"--rw=read", "--bs=1M"}, func(j fioJob) float64 { return j.Read.BW }},
	{"1M sequential writes", []string{"--rw=write", "--bs=1M", "--end_fsync=1"}, func(j fioJob) float64 { return j.Write.BW }},
	{"small files", []string{"--rw=write", "--bs=4k", "--filesize=4k", "--nrfiles=500", "--openfiles=1", "--fallocate=none"}, func(j fioJob) float64 { return j.Write.IOPS }},
}

// fioJob is what fio tells of a job.
type fioJob struct {
	Read  fioSide `json:"read"`
	Write fioSide `json:"write"`
}

type fioSide struct {
	IOPS float64 `json:"iops"`
	BW   float64 `json:"bw"`
}

// inputOutput measures I/O of a container on a volume against that of one on a directory
// of a mount made by hand, by turns; and that of a second such mount, for how much two that are the
// same differ.
func inputOutput(ctx context.Context, b *bench) error {
	n := b.cluster.nodes[0]
	for _, dir := range []string{"/run/hand", "/run/same"} {
		if _, err := n.byHand(ctx, dir); err != nil {
			return err
		}
		if err := n.run(ctx, "mkdir", "-p", dir+"/fio-"+filepath.Base(dir)); err != nil {
			return err
		}
	}
	rounds, seconds := 9, 3
	if b.quick {
		rounds, seconds = 1, 1
	}
	for _, job := range ioJobs {
		var ours, hand, same []float64
		ways := []struct {
			figures *[]float64
			flags   []string
		}{
			{&hand, []string{"--volume=/run/hand/fio-hand:/data"}},
			{&ours, []string{"--volume=fio:/data", "--volume-driver=glustervol"}},
			{&same, []string{"--volume=/run/same/fio-same:/data"}},
		}
		for round := range rounds {
			for i := range ways {
				way := ways[(round+i)%len(ways)] // who comes second may find the disk busy with what the first has left
				one, err := fio(ctx, n, way.flags, seconds, job.args)
				if err != nil {
					return fmt.Errorf("%s: %w", job.name, err)
				}
				*way.figures = append(*way.figures, job.of(one))
			}
		}
		b.report.between("fio, "+job.name, middle(ours)/middle(hand), 0.97, 1.03, "of a mount by hand",
			fmt.Sprintf("medians of %d rounds, %.0f against %.0f; a second mount by hand: %.3g", rounds, middle(ours), middle(hand), middle(same)/middle(hand)))
	}
	return errors.Join(n.run(ctx, "docker", "volume", "rm", "fio"),
		n.run(ctx, "sh", "-c", "rm -r /run/hand/fio-hand /run/same/fio-same && umount /run/hand /run/same"))
}

// fio runs it in a container, which has the node's own programs and libraries.
func fio(ctx context.Context, n *node, flags []string, seconds int, args []string) (fioJob, error) {
	command := []string{"docker", "run", "--rm", "--volume=/usr:/usr:ro", "--volume=/lib:/lib:ro", "--volume=/lib64:/lib64:ro"}
	command = append(command, flags...)
	command = append(command, "busybox", "/usr/bin/fio", "--name=bench", "--directory=/data", "--output-format=json",
		"--size=64M", "--time_based=1", "--runtime="+strconv.Itoa(seconds), "--group_reporting")
	out, err := n.output(ctx, append(command, args...)...)
	if err != nil {
		return fioJob{}, err
	}
	var result struct {
		Jobs []fioJob `json:"jobs"`
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || len(result.Jobs) == 0 {
		return fioJob{}, fmt.Errorf("fio says %q: %w", out, err)
	}
	return result.Jobs[0], nil
}

const purgeRounds = 4

// purge measures how fast the trash is emptied, beside rm -rf on a mount made by hand.
func purge(ctx context.Context, b *bench) error {
	n := b.cluster.nodes[0]
	hand, err := n.byHand(ctx, "/run/hand")
	if err != nil {
		return err
	}
	files := b.files / 20
	var ours, rm times
	// prepare has files to be removed by hand, and in the trash, of another name each time: the
	// mount remembers a name for a second.
	prepare := func(name string) error {
		if err := errors.Join(n.create(ctx, []string{name}), fill(filepath.Join(hand, "volumes", name), files), fill(filepath.Join(hand, name), files)); err != nil {
			return err
		}
		_, err := n.call(ctx, "Remove", request{Name: name})
		return err
	}
	byHand := func(name string) error { return n.run(ctx, "rm", "-rf", "/run/hand/"+name) }
	empty := func(name string) error { return n.run(ctx, "glustervol", "trash", "empty", name) }
	for i := range purgeRounds {
		name := fmt.Sprint("purged", i)
		err := prepare(name)
		ways := []struct {
			times *times
			do    func(name string) error
		}{{&rm, byHand}, {&ours, empty}}
		if i%2 == 1 {
			slices.Reverse(ways)
		}
		for _, way := range ways {
			if err == nil {
				err = take(way.times, func() error { return way.do(name) })
			}
		}
		if err != nil {
			return err
		}
	}
	if err := prepare("counted"); err != nil {
		return err
	}
	for _, way := range []struct {
		what string
		do   func(name string) error
	}{{"rm -rf, a file", byHand}, {"trash empty, a file", empty}} {
		if err := b.count(ctx, n, way.what, files, func() error { return way.do("counted") }); err != nil {
			return err
		}
	}
	b.report.sampled(fmt.Sprintf("rm -rf of %d files", files), rm)
	b.report.sampled(fmt.Sprintf("trash empty of %d files", files), ours)
	r := rm.median() / ours.median()
	b.report.Figures = append(b.report.Figures, figure{"purge at full speed", "≥ 0.9 of rm -rf", r, "of rm -rf", r >= 0.9, fmt.Sprintf("medians of %d rounds", purgeRounds)})
	return errors.Join(purgeBesideWork(ctx, b, n, hand), n.run(ctx, "umount", "/run/hand"))
}

// purgeBesideWork measures what a busy volume loses while another is purged in the
// background.
func purgeBesideWork(ctx context.Context, b *bench, n *node, hand string) error {
	rounds, seconds := 3, 15
	if b.quick {
		rounds, seconds = 1, 1
	}
	var alone, beside []float64
	write := func(list *[]float64) error {
		job, err := fio(ctx, n, []string{"--volume=busy:/data", "--volume-driver=glustervol"}, seconds, ioJobs[1].args)
		*list = append(*list, job.Write.IOPS)
		return err
	}
	for i := range rounds {
		name := fmt.Sprint("beside", i)
		if _, err := n.call(ctx, "Create", request{Name: name, Opts: map[string]string{"on-remove": "delete"}}); err != nil {
			return err
		}
		if err := errors.Join(fill(filepath.Join(hand, "volumes", name), b.files/20), write(&alone)); err != nil {
			return err
		}
		if _, err := n.call(ctx, "Remove", request{Name: name}); err != nil {
			return err
		}
		if err := write(&beside); err != nil {
			return err
		}
		// Each round begins without a purge.
		if err := n.run(ctx, "glustervol", "trash", "empty", name); err != nil && !strings.Contains(err.Error(), volume.ErrNotInTrash.Error()) {
			return err
		}
	}
	b.report.atMost("a busy volume loses to a purge in the background", 100*(1-middle(beside)/middle(alone)), 10, "%",
		fmt.Sprintf("4k random writes, medians of %d rounds, %.0f against %.0f a second", rounds, middle(beside), middle(alone)))
	return n.run(ctx, "docker", "volume", "rm", "busy")
}
