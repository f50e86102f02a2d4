package gluster_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/gluster/fstest"
	"github.com/glustervol/glustervol/hack/testnode"
)

func TestMain(m *testing.M) { testnode.Main(m) }

// kinds are the kinds of Gluster volumes that every FS is tested on.
var kinds = []struct {
	doc    string
	bricks int
	args   []string
}{
	{"one brick", 1, nil},
	{"2×2", 4, []string{"replica", "2"}},
	{"disperse 2+1", 3, []string{"disperse", "3", "redundancy", "1"}},
}

// TestDirOnGluster runs the suite on real Gluster volumes, mounted as the
// control plane mounts them.
func TestDirOnGluster(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.doc, func(t *testing.T) {
			gv := testnode.NewGlusterVolume(t, kind.bricks, "", kind.args...)
			mountPoint := mountVolume(t, gv)
			n := 0
			fstest.Run(t, func(t *testing.T) (gluster.FS, string) {
				n++
				path := filepath.Join(mountPoint, "store"+string(rune('a'+n)))
				run(t, "mkdir", path)
				dir, err := gluster.OpenDir(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { dir.Close() })
				return dir, path
			})
		})
	}
}

func mountVolume(t *testing.T, gv *testnode.GlusterVolume) (mountPoint string) {
	t.Helper()
	mountPoint = t.TempDir()
	run(t, "mount", "-t", "glusterfs", "-o", "attribute-timeout=0,entry-timeout=0,negative-timeout=0", gv.Address(), mountPoint)
	t.Cleanup(func() { run(t, "umount", mountPoint) })
	return mountPoint
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", program, args, err, out)
	}
}
