package mount_test

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/gluster/client"
	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/mount"
)

func testStartErrors(t *testing.T, n *node) {
	tests := []struct {
		doc       string
		hangs     bool // until its deadline
		prepare   func(s *mount.Source, config *mount.Config)
		hint      string
		permanent bool
		cause     error
	}{
		{
			doc:       "no such Gluster volume",
			prepare:   func(s *mount.Source, _ *mount.Config) { s.Volume = "nope" },
			hint:      `the servers know no Gluster volume "nope"`,
			permanent: true,
		},
		{
			doc:       "no such directory",
			prepare:   func(s *mount.Source, _ *mount.Config) { s.Subdir = "no/where" },
			hint:      "has no directory /no/where",
			permanent: true,
		},
		{
			doc:     "a name that does not resolve",
			prepare: func(s *mount.Source, _ *mount.Config) { s.Servers = []string{"nope.invalid"} },
			hint:    "mend DNS",
		},
		{
			doc:     "nothing listens",
			prepare: func(s *mount.Source, _ *mount.Config) { s.Servers = []string{refusingHost} },
			hint:    "no glusterd answers on " + refusingHost,
		},
		{
			doc:     "nothing listens anywhere", // a client waits 3 s before it asks the next
			prepare: func(s *mount.Source, _ *mount.Config) { s.Servers = []string{refusingHost, "gfs3"} },
			hint:    "no glusterd answers on " + refusingHost + ", gfs3",
		},
		{
			doc:     "a server that is switched off",
			hangs:   true,
			prepare: func(s *mount.Source, _ *mount.Config) { s.Servers = []string{silentHost} },
			hint:    silentHost + " did not answer in time",
			cause:   mount.ErrHung,
		},
		{
			doc:     "a server that accepts and does not answer",
			hangs:   true,
			prepare: func(s *mount.Source, _ *mount.Config) { s.Servers = []string{muteHost} },
			hint:    muteHost + " did not answer in time",
			cause:   mount.ErrHung,
		},
		{
			doc:       "an option out of range",
			prepare:   func(s *mount.Source, _ *mount.Config) { s.Options = "background-qlen=2" },
			hint:      `one of its options "background-qlen=2"`,
			permanent: true,
		},
		{
			doc:     "no program",
			prepare: func(_ *mount.Source, c *mount.Config) { c.Binary = "no-such-glusterfs" },
			hint:    "install glusterfs-client",
			cause:   exec.ErrNotFound,
		},
		{
			doc:     "another program",
			prepare: func(_ *mount.Source, c *mount.Config) { c.Binary = "false" },
			hint:    "",
		},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			t.Parallel()
			inner := newRunDir(t, n.source)
			tt.prepare(&inner.source, &inner.config)
			inner.Clients = mount.NewClients(inner.config)
			deadline := patience
			if tt.hangs {
				deadline = 2 * time.Second
			}
			wantStartError(t, inner, deadline, tt.hint, tt.permanent, tt.cause)
		})
	}
}

// wantStartError sees a start fail within its deadline and leave nothing.
func wantStartError(t *testing.T, n *node, deadline time.Duration, hint string, permanent bool, cause error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	start := time.Now()
	_, err := n.Use(ctx, n.source, "a")
	if waited := time.Since(start); waited > deadline+5*time.Second {
		t.Errorf("failed after %s, its deadline was %s", waited, deadline)
	}
	if left := append(n.mounts(), glob(t, filepath.Join(n.config.RunDir, "*/mnt/*"))...); len(left) > 0 || len(n.processes()) > 0 {
		t.Errorf("left behind: mounts %v, processes %v", left, n.processes())
	}
	n.eventually("the directory is gone", func() bool {
		return len(n.List()) == 0 && len(glob(t, filepath.Join(n.config.RunDir, "*"))) == 0
	})
	var startErr *client.StartError
	if !errors.As(err, &startErr) {
		t.Fatalf("error %v", err)
	}
	if !strings.Contains(startErr.Hint, hint) || (hint == "") != (startErr.Hint == "") || startErr.Permanent != permanent {
		t.Errorf("hint %q, permanent %v; want %q, %v", startErr.Hint, startErr.Permanent, hint, permanent)
	}
	if !strings.Contains(err.Error(), n.source.String()) {
		t.Errorf("error %q does not name %s", err, n.source)
	}
	if cause != nil {
		wantIs(t, "cause", err, cause)
	}
}

// testSwitchedOff has the first servers in the list not answer: the mount must
// not wait for the client to give up on each.
func testSwitchedOff(t *testing.T, n *node) {
	n.source.Servers = []string{silentHost, "nope.invalid", refusingHost, "gfs1"}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // a client needs 45 s
	defer cancel()
	c, err := n.Use(ctx, n.source, "a")
	must(t, err)
	wantFile(t, filepath.Join(c.Path(), "f"))
	pid := c.PID()
	must(t, n.restart())
	if n.Status(n.source.Key()).PID != pid {
		t.Errorf("adopted %+v", n.List())
	}
}

// TestStoppedVolume has the bricks away, first before a client comes, then
// under one that is there.
func TestStoppedVolume(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	n := newRunDir(t, mount.Source{Servers: []string{"gfs1"}, Volume: gv.Name})
	gv.Stop()
	wantStartError(t, n, patience, "is it started?", false, unix.ENOTCONN)
	gv.Start()
	c := n.use(n.source, "a")
	pid := c.PID()
	wantFile(t, filepath.Join(c.Path(), "f"))

	gv.Stop()
	var err error
	n.eventually("the mount answers ENOTCONN", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = c.VerifyDir(ctx, ".")
		return errors.Is(err, unix.ENOTCONN)
	})
	if errors.Is(err, mount.ErrDead) {
		t.Errorf("a client without its bricks is taken for dead: %v", err)
	}
	if status := n.Status(n.source.Key()); status.Health != "alive" || status.PID != pid {
		t.Errorf("status %+v", status)
	}
	gv.Start()
	n.eventually("the mount works again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = c.VerifyDir(ctx, ".")
		return err == nil
	})
	if again := n.use(n.source, "b"); again.PID() != pid {
		t.Errorf("process %d, was %d", again.PID(), pid)
	}
}
