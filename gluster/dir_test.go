package gluster_test

import (
	"testing"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/gluster/fstest"
)

func TestDir(t *testing.T) {
	fstest.Run(t, func(t *testing.T) (gluster.FS, string) {
		path := t.TempDir()
		dir, err := gluster.OpenDir(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { dir.Close() })
		return dir, path
	})
}
