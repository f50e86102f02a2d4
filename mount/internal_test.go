package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/sys/mountinfo"

	"github.com/glustervol/glustervol/gluster/client"
	"github.com/glustervol/glustervol/hack/testnode"
)

// TestCallHangs has a mount hang under a thousand system calls.
func TestCallHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const patience = time.Minute
		c := newClient(Source{}, "", Config{})
		answer := make(chan struct{})
		before := runtime.NumGoroutine()
		for range 1000 {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			start := time.Now()
			err := c.call(ctx, func() error { <-answer; return nil })
			cancel()
			if !errors.Is(err, ErrHung) || !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("error %v", err)
			}
			if waited := time.Since(start); waited != patience {
				t.Fatalf("left after %s, want %s", waited, patience)
			}
		}
		// The runtime counts some that have just ended.
		if n := runtime.NumGoroutine() - before; n > 2*maxCalls {
			t.Errorf("%d goroutines are left behind, want at most %d", n, maxCalls)
		}
		close(answer)
		other := errors.New("something else")
		for range 2 * maxCalls {
			if err := c.call(t.Context(), func() error { return other }); !errors.Is(err, other) {
				t.Fatalf("after the hang: %v", err)
			}
		}
	})
}

// TestLockHangs has a start take longer than a second user can wait.
func TestLockHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(Source{}, "", Config{})
		if err := c.lock(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.ensure(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		c.unlock()
		if err := c.lock(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestOptionsAreTaken starts a client with each option of the allowlist: none
// may be one that this glusterfs refuses, for then no volume with it would mount.
func TestOptionsAreTaken(t *testing.T) {
	cs, source := newRealClients(t)
	var flags, values []string
	for _, key := range slices.Sorted(maps.Keys(allowed)) {
		switch allowed[key].kind {
		case flagOption, fuseOption:
			flags = append(flags, key)
		case numberOption:
			values = append(values, key+"=32")
		case levelOption:
			values = append(values, key+"=INFO")
		default:
			values = append(values, key+"=off")
		}
	}
	for _, chosen := range [][]string{flags, values, {"direct-io-mode=auto", "use-readdirp=on", "kernel-writeback-cache=on", "fopen-keep-cache=on", "auto-invalidation=on", "fuse-flush-handle-interrupt=on"}} {
		options, err := ParseOptions(strings.Join(chosen, ","))
		if err != nil {
			t.Fatal(err)
		}
		source.Options = options
		c, err := cs.Use(t.Context(), source, "a")
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := c.VerifyDir(t.Context(), "."); err != nil {
			t.Errorf("%s: %v", options, err)
		}
		args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c.PID()))
		if err != nil || !strings.Contains(string(args), strings.Join(options.args(), "\x00")) {
			t.Errorf("command line %q, %v; want %q in it", args, err, options.args())
		}
		cs.Release(source.Key(), "a")
	}
}

// TestEndLate has lingers run out too late to be stopped: when another client
// has the path, and when there is a user again. Both must be left alone.
func TestEndLate(t *testing.T) {
	cs, source := newRealClients(t)
	key := source.Key()
	if _, err := cs.Use(t.Context(), source, "a"); err != nil {
		t.Fatal(err)
	}
	old := cs.clients[key]
	cs.Release(key, "a")
	if err := cs.endIdle(t.Context(), key, old); err != nil {
		t.Fatal(err)
	}
	c, err := cs.Use(t.Context(), source, "b")
	if err != nil {
		t.Fatal(err)
	}
	if c == old.Client {
		t.Fatal("the client is the old one")
	}
	for _, late := range []*shared{old, cs.clients[key]} {
		if err := cs.endIdle(t.Context(), key, late); err != nil {
			t.Error(err)
		}
		if _, err := c.VerifyDir(t.Context(), "."); err != nil {
			t.Errorf("the new client: %v", err)
		}
	}
	cs.Release(key, "b")
}

// TestKillFamily has a client end before the child that it forked to mount.
func TestKillFamily(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	p, err := startProcess("sh", []string{"-c", `sleep 1000 & echo $! >"$0"; exit 1`, file})
	if err != nil {
		t.Fatal(err)
	}
	<-p.exited
	child, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p.kill()
	pid := strings.TrimSpace(string(child))
	if stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat")); err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("the child lives on: %s", stat)
	}
}

// TestFirstThatSees has processes of a mount namespace end after they were
// listed, as the short-lived ones of a container do.
func TestFirstThatSees(t *testing.T) {
	zombie := startZombie(t)
	const gone = 1 << 30 // larger than any process id
	self := os.Getpid()
	all := func(*mountinfo.Info) bool { return true }
	none := func(*mountinfo.Info) bool { return false }
	tests := []struct {
		doc     string
		members []int
		sees    func(*mountinfo.Info) bool
		want    int
	}{
		{doc: "it sees", members: []int{self}, sees: all, want: self},
		{doc: "it does not see", members: []int{self}, sees: none},
		{doc: "the first has ended", members: []int{gone, self}, sees: all, want: self},
		{doc: "the first is a zombie", members: []int{zombie, gone, self}, sees: all, want: self},
		{doc: "all have ended", members: []int{gone, zombie}, sees: all},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			if got, err := firstThatSees(tt.members, tt.sees); err != nil || got != tt.want {
				t.Errorf("got %d, %v; want %d", got, err, tt.want)
			}
		})
	}
}

// startZombie returns the id of a process that has ended and that nobody has
// waited for.
func startZombie(t *testing.T) (pid int) {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(stat), ") Z ") {
			return cmd.Process.Pid
		}
	}
}

func TestClosing(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root sees what files a process has that has ended")
	}
	if p := (&process{pid: os.Getpid(), exited: make(chan struct{})}); p.closing() {
		t.Error("a process that runs is taken for one that ends")
	}
	if p := (&process{pid: startZombie(t), exited: make(chan struct{})}); !p.closing() {
		t.Error("a process that has closed its files is taken for one that runs")
	}
	ended := make(chan struct{})
	close(ended)
	if p := (&process{pid: os.Getpid(), exited: ended}); !p.closing() {
		t.Error("a process that has ended is taken for one that runs")
	}
}

// TestFindProcess has a client beside the child that it forks to mount, which
// is younger and has the same command line, and beside an earlier client.
func TestFindProcess(t *testing.T) {
	dir := t.TempDir()
	binary, mountPoint := filepath.Join(dir, "glusterfs"), filepath.Join(dir, "mnt")
	script := "#!/bin/sh\nsleep 0.05; (while :; do sleep 1; done) & echo >\"$1\"; wait\n"
	if err := os.WriteFile(binary, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	var last *process
	for _, file := range []string{"earlier", "last"} {
		p, err := startProcess(binary, []string{filepath.Join(dir, file), mountPoint})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.kill)
		for client.LogSize(filepath.Join(dir, file)) == 0 {
			time.Sleep(time.Millisecond)
		}
		last = p
		time.Sleep(20 * time.Millisecond) // starts are counted in ticks of 10 ms
	}
	found, err := findProcess(mountPoint)
	if err != nil || found == nil || found.pid != last.pid {
		t.Errorf("found %+v, %v; want process %d", found, err, last.pid)
	}
	for _, other := range []string{mountPoint + "x", "nt", dir} {
		if found, err := findProcess(other); err != nil || found != nil {
			t.Errorf("%s: found %+v, %v", other, found, err)
		}
	}
}

// newRealClients returns clients that end when they are closed, at the end of
// the test, and the source of a Gluster volume.
func newRealClients(t *testing.T) (*Clients, Source) {
	t.Helper()
	gv := testnode.NewGlusterVolume(t, 1, "")
	dir := t.TempDir()
	cs := NewClients(Config{
		RunDir: filepath.Join(dir, "run"),
		LogDir: filepath.Join(dir, "log"),
		Binary: "glusterfs",
		Linger: time.Hour,
		Log:    slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() {
		if err := cs.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return cs, Source{Servers: []string{"gfs1"}, Volume: gv.Name}
}
