package main

import (
	"testing"

	"github.com/glustervol/glustervol/hack/testnode"
)

// TestSizeLimit has Gluster's own quota on a volume's directory shown as the
// volume's size limit once it has been mounted.
func TestSizeLimit(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	testnode.Docker(t)
	startDriver(t, gv.Address())
	cli(t, "create", "small")
	cli(t, "create", "free")
	testnode.RunGluster(t, "volume", "quota", gv.Name, "enable")
	testnode.RunGluster(t, "volume", "quota", gv.Name, "limit-usage", "/volumes/small", "10MB")
	cli(t, "mount", "small")
	cli(t, "mount", "free")
	testnode.Eventually(t, "the size limit", func() bool { return inspect(t, "small").SizeLimit == 10<<20 })
	if limit := inspect(t, "free").SizeLimit; limit != 0 {
		t.Errorf("a volume without a quota has the limit %d", limit)
	}
	expect(t, cli(t, "inspect", "small"), "Size limit:", "10MiB")
	expect(t, testnode.RunDocker(t, "volume", "inspect", "--format", "{{json .Status}}", "small"), `"size-limit":10485760`)
	cli(t, "unmount", "small")
	cli(t, "unmount", "free")
}
