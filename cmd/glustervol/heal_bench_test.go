package main

import (
	"fmt"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testnode"
)

// healsAtMost is how many deaths BenchmarkHealing measures: they cost seconds.
const healsAtMost = 20

// BenchmarkHealing measures for how long a container cannot write whose Gluster
// client is killed, beside what a mount by hand takes, and prints medians.
func BenchmarkHealing(b *testing.B) {
	gv, _ := startNode(b)
	h := startHeart(b, gv, "heart", "web")
	var healed, mounted []time.Duration
	for b.Loop() {
		for range min(*benchRounds, healsAtMost) {
			mounted = append(mounted, timeMount(b, gv))
			healed = append(healed, timeHealing(b, h))
		}
	}
	fmt.Printf("\nclient killed until a container writes again: median %s, longest %s (wanted: 1 s); a mount by hand: median %s\n",
		middle(healed), slices.Max(healed), middle(mounted))
}

// timeHealing has a heart's client die, and takes the time until its next beat.
func timeHealing(b *testing.B, h heart) time.Duration {
	b.Helper()
	h.beatsOn(b)
	killClient(b, "web")
	start := time.Now()
	// What the dead client had still sent arrives, and then nothing more.
	beats := h.beats()
	for last := time.Now(); time.Since(last) < 5*time.Millisecond; {
		if now := h.beats(); now != beats {
			beats, last = now, time.Now()
		}
	}
	testnode.Eventually(b, "the heart beats again", func() bool { return h.beats() > beats })
	return time.Since(start)
}

// timeMount takes the time of mount(8) on an unused client.
func timeMount(b *testing.B, gv *testnode.GlusterVolume) time.Duration {
	b.Helper()
	dir := b.TempDir()
	start := time.Now()
	if out, err := exec.Command("mount", "-t", "glusterfs", gv.Address(), dir).CombinedOutput(); err != nil {
		b.Fatalf("mount: %v: %s", err, out)
	}
	took := time.Since(start)
	if err := exec.Command("umount", dir).Run(); err != nil {
		b.Fatal(err)
	}
	return took
}

func middle(times []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(times))[len(times)/2].Round(time.Millisecond)
}
