package gluster_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/gluster/client"
	"github.com/glustervol/glustervol/hack/testnode"
)

// TestAPIConnect has a store that does not answer, for every reason. The error
// tells it, and the same connection works when the reason is gone.
func TestAPIConnect(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	for _, tt := range []struct {
		doc       string
		store     string
		spoil     func(t *testing.T) (mend func())
		hint      string
		permanent bool
	}{
		{
			doc: "no such Gluster volume", store: "gfs1:/later", permanent: true,
			hint:  `the servers know no Gluster volume "later"`,
			spoil: func(t *testing.T) func() { return func() { testnode.NamedGlusterVolume(t, "later") } },
		},
		{
			doc: "no such directory", store: gv.Address() + "/a/b", permanent: true,
			hint: "has no directory /a/b",
			spoil: func(t *testing.T) func() {
				return func() { run(t, "mkdir", "-p", mountVolume(t, gv)+"/a/b") }
			},
		},
		{
			doc: "a file in the directory's place", store: gv.Address() + "/file/b",
			hint: "",
			spoil: func(t *testing.T) func() {
				dir := mountVolume(t, gv)
				run(t, "touch", dir+"/file")
				return func() { run(t, "rm", dir+"/file"); run(t, "mkdir", "-p", dir+"/file/b") }
			},
		},
		{
			doc: "stopped", store: gv.Address(),
			hint:  "is it started?",
			spoil: func(*testing.T) func() { gv.Stop(); return gv.Start },
		},
		{
			doc: "nothing listens", store: "gfs3:/" + gv.Name,
			hint:  "no glusterd answers on gfs3",
			spoil: func(t *testing.T) func() { return filter(t, "REJECT") },
		},
		{
			doc: "a server that is switched off", store: "gfs3:/" + gv.Name,
			hint:  "gfs3 did not answer in time",
			spoil: func(t *testing.T) func() { return filter(t, "DROP") },
		},
	} {
		t.Run(tt.doc, func(t *testing.T) {
			mend := tt.spoil(t)
			api := newAPI(t, tt.store)
			for range 4 { // libgfapi complains once; the others explain themselves as well
				wantStartError(t, connect(t, api, time.Second), tt.hint, tt.permanent)
			}
			if err := api.Mkdir(t.Context(), "d", 0o755); err == nil {
				t.Error("a directory was made")
			}
			mend()
			testnode.Eventually(t, "the store answers", func() bool { return connect(t, api, 10*time.Second) == nil })
			must(t, api.Mkdir(t.Context(), "d", 0o755))
			must(t, api.Remove(t.Context(), "d"))
			if failing := api.Failing(); failing != 0 {
				t.Errorf("it fails for %s", failing)
			}
		})
	}
}

// filter keeps packets from a server until mend.
func filter(t *testing.T, target string) (mend func()) {
	t.Helper()
	return testnode.Filter(t, "198.51.100.3", "24007", target)
}

func connect(t *testing.T, api *gluster.API, patience time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return api.Connect(ctx)
}

func wantStartError(t *testing.T, err error, hint string, permanent bool) {
	t.Helper()
	var startErr *client.StartError
	if !errors.As(err, &startErr) {
		t.Fatalf("error %v", err)
	}
	if !strings.Contains(startErr.Hint, hint) || (hint == "") != (startErr.Hint == "") || startErr.Permanent != permanent {
		t.Errorf("error %q, permanent %v; want %q, %v", err, startErr.Permanent, hint, permanent)
	}
}

// TestAPIFailover gives servers that are down before one that is up.
func TestAPIFailover(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	testnode.Filter(t, "198.51.100.2", "24007", "DROP")
	testnode.Filter(t, "198.51.100.3", "24007", "REJECT")
	api := newAPI(t, "nowhere.invalid,gfs2,gfs3,gfs1:/"+gv.Name)
	must(t, connect(t, api, 20*time.Second)) // libgfapi gives a silent server 45 s
	must(t, api.Mkdir(t.Context(), "d", 0o755))
}

// TestAPIServerGoes stops the bricks under a connection and starts them again.
func TestAPIServerGoes(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	api := openAPI(t, gv.Address())
	must(t, api.Mkdir(t.Context(), "d", 0o755))
	gv.Stop()
	testnode.Eventually(t, "the store fails", func() bool {
		_, err := api.ReadDir(t.Context(), "d")
		return errors.Is(err, syscall.ENOTCONN) && api.Failing() > 0
	})
	gv.Start()
	testnode.Eventually(t, "the store answers", func() bool {
		_, err := api.ReadDir(t.Context(), "d")
		return err == nil && api.Failing() == 0
	})
}

// TestAPIVolumeChanges sets an option and adds a brick: libgfapi then goes on with
// other translators, and handles that are kept go on with them.
func TestAPIVolumeChanges(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	address, err := gluster.ParseAddress(gv.Address())
	must(t, err)
	api, err := gluster.NewAPI(address, filepath.Join(t.TempDir(), "log"), "d")
	must(t, err)
	must(t, api.Connect(t.Context()))
	must(t, api.Mkdir(t.Context(), "d", 0o755))
	made := 0
	work := func() {
		t.Helper()
		for range 20 {
			made++
			name := fmt.Sprint("d/", made)
			_, err := api.Create(t.Context(), name+".tmp", []byte(name))
			must(t, err)
			must(t, api.Rename(t.Context(), name+".tmp", name))
			if got, err := api.ReadFile(t.Context(), name); err != nil || string(got) != name {
				t.Fatalf("%s: %q, %v", name, got, err)
			}
		}
		if list, err := api.ReadDir(t.Context(), "d"); err != nil || len(list) != made {
			t.Fatalf("%d names, %v; want %d", len(list), err, made)
		}
	}
	work()
	testnode.RunGluster(t, "volume", "set", gv.Name, "performance.write-behind", "off")
	work()
	added := gv.Bricks[0] + "-added"
	testnode.RunGluster(t, "volume", "add-brick", gv.Name, testnode.Address+":"+added, "force")
	testnode.Eventually(t, "new directories are on the new brick too", func() bool {
		work() // through the change, whenever it comes
		name := fmt.Sprint("new", made)
		must(t, api.Mkdir(t.Context(), name, 0o755))
		_, err := os.Stat(filepath.Join(added, name))
		return err == nil
	})
	work()
}

// TestAPIMadeAnew deletes the Gluster volume and makes another of the same
// name: that takes a new connection.
func TestAPIMadeAnew(t *testing.T) {
	var api *gluster.API
	t.Run("former", func(t *testing.T) {
		api = openAPI(t, testnode.NamedGlusterVolume(t, "anew").Address())
		must(t, api.Mkdir(t.Context(), "d", 0o755))
	})
	testnode.NamedGlusterVolume(t, "anew")
	if err := connect(t, api, 5*time.Second); err == nil || api.Failing() == 0 {
		t.Errorf("the former connection works, which is good news: it needs no replacement any more (%v)", err)
	}
	if _, err := openAPI(t, "gfs1:/anew").Lstat(t.Context(), "d"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the new volume has the former's directory: %v", err)
	}
}

// replacements is how many connections TestAPIReplacements goes through, and
// replacementCost what each may leave behind, in bytes.
const (
	replacements    = 100
	replacementCost = 4 << 20
)

// TestAPIReplacements replaces a connection again and again.
func TestAPIReplacements(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	openAPI(t, gv.Address()).Discard() // what a first one costs
	memory, threads := residentSize(t), threadCount(t)
	start := time.Now()
	for range replacements {
		api := openAPI(t, gv.Address())
		must(t, api.Mkdir(t.Context(), "d", 0o755))
		must(t, api.Remove(t.Context(), "d"))
		api.Discard()
	}
	connected := time.Since(start)
	testnode.Eventually(t, "the threads of the former connections end", func() bool { return threadCount(t) <= threads+10 })
	grown := residentSize(t) - memory
	t.Logf("%d replacements in %s, all ended after %s: %d kB each are left, %d threads more",
		replacements, connected, time.Since(start), grown/replacements>>10, threadCount(t)-threads)
	if grown > replacements*replacementCost {
		t.Errorf("memory has grown by %d bytes", grown)
	}
}

// TestAPIUnused discards a connection that was never made, as for a request that has
// no time left. A timer of libgfapi that is left would end the process in 120 s.
func TestAPIUnused(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	timers := timerCount(t)
	api := newAPI(t, gv.Address())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := api.Connect(ctx); !errors.Is(err, client.ErrNoAnswer) {
		t.Fatalf("error %v, want %v", err, client.ErrNoAnswer)
	}
	api.Discard()
	testnode.Eventually(t, "no timer of its own is left", func() bool { return timerCount(t) <= timers })
}

// timerCount is how many threads of libgfapi wait for timers in this process, one a
// connection.
func timerCount(t *testing.T) (timers int) {
	t.Helper()
	names, err := filepath.Glob("/proc/self/task/*/comm")
	must(t, err)
	for _, name := range names {
		if comm, err := os.ReadFile(name); err == nil && string(comm) == "glfs_timer\n" {
			timers++
		}
	}
	return timers
}

// TestAPIHangs stops the bricks of a store: calls leave at their deadline, those
// behind fail fast, another store is not touched, threads stay bounded, and the
// store comes back by itself.
func TestAPIHangs(t *testing.T) {
	hung, well := testnode.NewGlusterVolume(t, 1, ""), testnode.NewGlusterVolume(t, 1, "")
	a, b := openAPI(t, hung.Address()), openAPI(t, well.Address())
	must(t, a.Mkdir(t.Context(), "before", 0o755))
	threads := threadCount(t)
	resume := testnode.Hang(t, hung.BrickPID())

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := a.Mkdir(ctx, "during", 0o755); !errors.Is(err, gluster.ErrNoAnswer) {
		t.Fatalf("error %v, want %v", err, gluster.ErrNoAnswer)
	}
	var wg sync.WaitGroup
	var calls atomic.Int32
	for range 100 {
		wg.Go(func() {
			for range 3 {
				// None has a deadline of its own: that it ends at all is the test.
				if _, err := a.Lstat(t.Context(), "before"); !errors.Is(err, gluster.ErrNoAnswer) {
					t.Errorf("error %v, want %v", err, gluster.ErrNoAnswer)
				}
				calls.Add(1)
			}
		})
	}
	for i := range 50 {
		must(t, b.Mkdir(t.Context(), fmt.Sprint("d", i), 0o755))
	}
	wg.Wait()
	if n := threadCount(t) - threads; n > 64 {
		t.Errorf("%d calls on a hung store have left %d threads", calls.Load(), n)
	}
	if a.Failing() == 0 || b.Failing() != 0 {
		t.Errorf("the hung store fails for %s, the other for %s", a.Failing(), b.Failing())
	}
	resume()
	testnode.Eventually(t, "the store works again", func() bool {
		_, err := a.Lstat(t.Context(), "before")
		return err == nil
	})
	must(t, a.Mkdir(t.Context(), "after", 0o755))
}

func threadCount(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/task")
	must(t, err)
	return len(list)
}

// TestAPITLS connects by Gluster's own certificate, for volume files and files.
func TestAPITLS(t *testing.T) {
	certificate := testnode.TLS(t)
	gv := testnode.NewGlusterVolume(t, 1, "")
	testnode.SecureVolume(t, gv)
	api := openAPI(t, gv.Address())
	must(t, api.Mkdir(t.Context(), "d", 0o755))

	must(t, os.Rename(certificate, certificate+".away"))
	t.Cleanup(func() { must(t, os.Rename(certificate+".away", certificate)) })
	wantStartError(t, connect(t, newAPI(t, gv.Address()), 10*time.Second), "the TLS connection failed", false)
}
