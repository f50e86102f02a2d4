package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/glustervol/glustervol/plugin"
)

// containersAtOnce is how many are started together.
const containersAtOnce = 50

// docker measures what a person sees of containers, beside Docker's own volumes.
func docker(ctx context.Context, b *bench) error {
	return errors.Join(dockerRun(ctx, b), startAtOnce(ctx, b))
}

// dockerRun measures 'docker run' with a volume that is there and without, and what dockerd asks the driver
// for meanwhile by itself. The ways take turns in being the first.
func dockerRun(ctx context.Context, b *bench) error {
	n := b.cluster.nodes[0]
	if err := n.create(ctx, []string{"run"}); err != nil {
		return err
	}
	var without, local, with, asked times
	ways := []func() error{
		func() error { return take(&without, func() error { return n.dockerRun(ctx) }) },
		func() error {
			return take(&local, func() error { return n.dockerRun(ctx, "--volume=bench-local:/data") })
		},
		func() error {
			return take(&with, func() error { return n.dockerRun(ctx, "--volume=run:/data", "--volume-driver=glustervol") })
		},
		func() error { return take(&asked, func() error { return n.asDockerRun(ctx, "run") }) },
	}
	for round := range max(b.rounds/5, 3) {
		for i := range ways {
			if err := ways[(round+i)%len(ways)](); err != nil {
				return err
			}
		}
	}
	b.report.sampled("docker run, no volume", without)
	b.report.sampled("docker run, local volume", local)
	b.report.sampled("docker run, volume of glustervol", with)
	b.report.sampled("… what the driver is asked for by it", asked)
	b.report.atMost("docker run with a volume, more than without", 100*(with.median()/without.median()-1), 5, "%",
		fmt.Sprintf("medians; the driver's part by itself is %.1f %%", 100*asked.median()/without.median()))
	return nil
}

func (n *node) dockerRun(ctx context.Context, flags ...string) error {
	return n.run(ctx, append(append([]string{"docker", "run", "--rm"}, flags...), "busybox", "true")...)
}

// asDockerRun asks the driver for what dockerd does while a container with a volume runs.
func (n *node) asDockerRun(ctx context.Context, volume string) error {
	for _, method := range []string{"Get", "Get", "Mount", "Unmount"} {
		if _, err := n.call(ctx, method, request{Name: volume, ID: "bench"}); err != nil {
			return err
		}
	}
	return nil
}

// startAtOnce starts many containers together, each with a volume of its own.
func startAtOnce(ctx context.Context, b *bench) error {
	n := b.cluster.nodes[0]
	count := containersAtOnce
	if b.quick {
		count = 5
	}
	script := `for i in $(seq %d); do docker run --detach --name=%s$i --volume=%s$i:/data --volume-driver=%s busybox sleep 1000 >/dev/null & done; wait
		test "$(docker ps --quiet --filter=name=%s | wc -l)" = %d`
	clean := `docker ps --all --quiet --filter=name=%s | xargs docker rm --force --volumes >/dev/null; for i in $(seq %d); do docker volume rm %s$i >/dev/null; done`
	var ours, local times
	for range 3 {
		for _, way := range []struct {
			times  *times
			driver string
		}{{&local, "local"}, {&ours, "glustervol"}} {
			name := "at-once-" + way.driver
			err := take(way.times, func() error {
				return n.run(ctx, "sh", "-c", fmt.Sprintf(script, count, name, name, way.driver, name, count))
			})
			if err == nil {
				err = n.run(ctx, "sh", "-c", fmt.Sprintf(clean, name, count, name))
			}
			if err != nil {
				return err
			}
		}
	}
	b.report.sampled(fmt.Sprintf("%d containers at once, local volumes", count), local)
	b.report.sampled(fmt.Sprintf("%d containers at once, volumes of glustervol", count), ours)
	b.report.atMost(fmt.Sprintf("%d containers starting at once", count), ours.median()/local.median(), 1.5, "times local", "medians")
	return nil
}

// heal measures for how long a container cannot write whose client is killed.
func heal(ctx context.Context, b *bench) error {
	n := b.cluster.nodes[0]
	err := n.run(ctx, "docker", "run", "--detach", "--name=heart", "--volume=heart:/data", "--volume-driver=glustervol", "busybox",
		"sh", "-c", "while :; do echo beat >>/data/beats; done")
	if err != nil {
		return err
	}
	var healed times
	for range max(b.rounds/10, 3) {
		took, err := timeHealing(ctx, n, filepath.Join(b.cluster.state, n.name, "brick/volumes/heart/beats"))
		if err != nil {
			return err
		}
		healed = append(healed, took)
	}
	b.report.sampled("client killed until the container writes", healed)
	b.report.atMost("client killed until the container writes", healed.quantile(1)/1000, 1, "s", "the longest")
	return n.run(ctx, "docker", "rm", "--force", "heart")
}

// timeHealing kills the client of volumes, and waits until a file on a brick has grown behind
// what the client had still sent.
func timeHealing(ctx context.Context, n *node, file string) (time.Duration, error) {
	size := func() int64 {
		info, err := os.Stat(file)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	if err := n.run(ctx, "pkill", "-KILL", "--full", "glusterfs.*/run/glustervol/clients"); err != nil {
		return 0, err
	}
	begin := time.Now()
	last, since := size(), time.Now()
	for time.Since(since) < 5*time.Millisecond {
		if now := size(); now != last {
			last, since = now, time.Now()
		}
	}
	for size() == last {
		if time.Since(begin) > time.Minute || ctx.Err() != nil {
			return 0, errors.Join(errors.New("the container was not healed"), ctx.Err())
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(begin), n.awaitHealth(ctx)
}

// awaitHealth waits until the driver calls its clients well.
func (n *node) awaitHealth(ctx context.Context) error {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		out, err := n.output(ctx, "glustervol", "inspect", "--json", "heart")
		var volumes []plugin.VolumeInfo
		if err == nil && json.Unmarshal([]byte(out), &volumes) == nil && volumes[0].Client.Health == "alive" {
			return nil
		}
	}
	return errors.New("the client of volume heart is not well")
}
