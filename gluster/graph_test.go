package gluster_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/hack/testnode"
)

const volfile = `# made by hand
volume gv0-client-0
    type protocol/client
    option username 65551f6e
    option password 14c33388
    option remote-host gfs1
    option remote-subvolume "/bricks/b 1"
end-volume

volume gv0
    type debug/io-stats
    subvolumes gv0-client-0 other
end-volume
`

func TestParseVolfile(t *testing.T) {
	g, err := gluster.ParseVolfile(strings.NewReader(volfile))
	if err != nil {
		t.Fatal(err)
	}
	brick := g.OfType(gluster.ClientType)[0]
	if len(g) != 2 || brick.Options["remote-host"] != "gfs1" || brick.Options["remote-subvolume"] != "/bricks/b 1" ||
		len(g[1].Subvolumes) != 2 || g.VolumeName() != "gv0" {
		t.Errorf("%+v", g)
	}
	if text := g.String(); strings.Contains(text, "65551f6e") || strings.Contains(text, "14c33388") || strings.Contains(text, "password") {
		t.Errorf("credentials are in %s", text)
	}
	again, err := gluster.ParseVolfile(strings.NewReader(g.String()))
	if err != nil || again.String() != g.String() {
		t.Errorf("written and read again: %v, %v", again, err)
	}
	for text, word := range map[string]string{
		"option a b\n":                       "line 1",
		"volume a\n":                         "breaks off",
		"volume a\nfrob\nend-volume\n":       `"frob"`,
		"volume a\nvolume b\nend-volume\n":   `"volume"`,
		"volume a\ntype b\nend-volume\n!!\n": "line 4",
	} {
		if _, err := gluster.ParseVolfile(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if gluster.Graph(nil).VolumeName() != "VOLUME" {
		t.Error("a graph of nothing has a name")
	}
}

// TestGraph: both ways to a store know its bricks, and which of them are connected.
func TestGraph(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 3, "", "replica", "3")
	address, err := gluster.ParseAddress(gv.Address())
	if err != nil {
		t.Fatal(err)
	}
	api, err := gluster.NewAPI(address, filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.Graph(t.Context()); err == nil {
		t.Error("a graph is known before the connection")
	}
	if err := api.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { expectNoGraph(t, api) })
	dir, err := gluster.OpenDir(t.Context(), mountVolume(t, gv))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	gv.KillBricks(gv.Bricks[2])
	for name, graph := range map[string]func() (gluster.Graph, error){
		"libgfapi": func() (gluster.Graph, error) { return api.Graph(t.Context()) },
		"FUSE":     func() (gluster.Graph, error) { return dir.Graph(t.Context()) },
	} {
		testnode.Eventually(t, name+" knows the bricks", func() bool {
			g, err := graph()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			connected := map[string]bool{}
			for _, b := range g.OfType(gluster.ClientType) {
				connected[b.Options["remote-subvolume"]] = b.Connected != nil && *b.Connected
			}
			return len(connected) == 3 && connected[gv.Bricks[0]] && connected[gv.Bricks[1]] && !connected[gv.Bricks[2]]
		})
	}
}

// expectNoGraph discards a connection, and wants nobody to ask it any more: what it
// would be asked in is freed.
func expectNoGraph(t *testing.T, api *gluster.API) {
	t.Helper()
	api.Discard()
	testnode.Eventually(t, "the discarded connection tells nothing", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_, err := api.Graph(ctx)
		return errors.Is(err, gluster.ErrNoAnswer)
	})
}
