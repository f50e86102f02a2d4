package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/glustervol/glustervol/hack/testnode"
)

// TestReplacedVolume removes a volume and makes one of the same name again and
// again, while the Gluster client that serves both runs on and remembers the
// former directory: each has what was written to it, in the trash too.
func TestReplacedVolume(t *testing.T) {
	startNode(t)
	docker(t, "run", "--detach", "--name=holder", driverFlag, "--volume=other:/data", testnode.Image, "sleep", "1000")
	const rounds = 4
	for round := range rounds {
		out := docker(t, "run", "--rm", driverFlag, "--volume=web:/data", testnode.Image, "sh", "-c", fmt.Sprintf("ls /data; echo %d > /data/round", round))
		if out != "" {
			t.Errorf("round %d: a new volume has %q", round, out)
		}
		docker(t, "volume", "rm", "web")
	}
	entries := strings.Split(cli(t, "trash", "ls"), "\n")[1:]
	if len(entries) != rounds {
		t.Fatalf("the trash has %d entries: %q", len(entries), entries)
	}
	for round, entry := range entries { // the oldest first
		name := fmt.Sprint("round", round)
		cli(t, "trash", "restore", "--as", name, strings.Fields(entry)[0])
		if got := docker(t, "run", "--rm", "--volume="+name+":/data", driverFlag, testnode.Image, "cat", "/data/round"); got != fmt.Sprint(round) {
			t.Errorf("the volume of round %d holds %q", round, got)
		}
	}
}
