package gluster_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/gluster/fstest"
	"github.com/glustervol/glustervol/hack/testnode"
)

// TestAPI runs the suite on real Gluster volumes over libgfapi.
func TestAPI(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.doc, func(t *testing.T) {
			gv := testnode.NewGlusterVolume(t, kind.bricks, "", kind.args...)
			// What the suite plants through a mount has to be seen there at once too.
			testnode.RunGluster(t, "volume", "set", gv.Name, "performance.stat-prefetch", "off")
			mountPoint := mountVolume(t, gv)
			n := 0
			fstest.Run(t, func(t *testing.T) (gluster.FS, string) {
				n++
				name := fmt.Sprintf("store%d", n)
				run(t, "mkdir", filepath.Join(mountPoint, name))
				return openAPI(t, gv.Address()+"/"+name), filepath.Join(mountPoint, name)
			})
		})
	}
}

// openAPI connects to a store. It is left open: to end it takes 9 s, and the
// process ends soon.
func openAPI(t *testing.T, store string) *gluster.API {
	t.Helper()
	api := newAPI(t, store)
	must(t, api.Connect(t.Context()))
	return api
}

func newAPI(t *testing.T, store string) *gluster.API {
	t.Helper()
	address, err := gluster.ParseAddress(store)
	must(t, err)
	api, err := gluster.NewAPI(address, filepath.Join(t.TempDir(), "log"))
	must(t, err)
	return api
}

// TestAPIFresh has one node change files and the other look at once.
func TestAPIFresh(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	a, b := openAPI(t, gv.Address()), openAPI(t, gv.Address())
	must(t, a.Mkdir(t.Context(), "d", 0o755))
	for i := range 200 {
		text := fmt.Sprint(i)
		must(t, a.Create(t.Context(), "d/new", []byte(text)))
		must(t, a.Rename(t.Context(), "d/new", "d/f"))
		if got, err := b.ReadFile(t.Context(), "d/f"); err != nil || string(got) != text {
			t.Fatalf("round %d: the other node reads %q, %v", i, got, err)
		}
		must(t, b.Remove(t.Context(), "d/f"))
		if _, err := a.Lstat(t.Context(), "d/f"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("round %d: a removed file is seen: %v", i, err)
		}
	}
}

// stressTime is how long TestAPIStress runs.
const stressTime = time.Minute

// TestAPIStress runs mixed operations in 64 goroutines while signals arrive,
// and looks at the memory before and after.
func TestAPIStress(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	api := openAPI(t, gv.Address())
	stop := rainSignals(t)
	stress(t, api, 2*time.Second) // fills the caches
	before := residentSize(t)
	operations := stress(t, api, stressTime)
	after := residentSize(t)
	stop()
	t.Logf("%d operations in %s; resident memory %d MB before, %d MB after", operations, stressTime, before>>20, after>>20)
	if after > before+before/2+32<<20 {
		t.Errorf("memory has grown from %d to %d bytes", before, after)
	}
}

// rainSignals sends this process a signal every millisecond.
func rainSignals(t *testing.T) (stop func()) {
	t.Helper()
	received := make(chan os.Signal, 1)
	signal.Notify(received, syscall.SIGUSR2)
	ticker := time.NewTicker(time.Millisecond)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-ticker.C:
				_ = syscall.Kill(os.Getpid(), syscall.SIGUSR2)
			case <-done:
				return
			}
		}
	}()
	return func() { ticker.Stop(); close(done); signal.Stop(received) }
}

// stress has each goroutine go through the life of files and directories of its
// own, and checks every answer.
func stress(t *testing.T, api gluster.FS, duration time.Duration) (operations int64) {
	t.Helper()
	var count atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(duration)
	for worker := range 64 {
		wg.Go(func() {
			ctx := t.Context()
			dir := fmt.Sprintf("w%d-%d", worker, rand.Int64())
			check := func(err error) bool {
				count.Add(1)
				if err != nil {
					t.Errorf("worker %d: %v", worker, err)
				}
				return err == nil
			}
			if !check(api.Mkdir(ctx, dir, 0o700)) {
				return
			}
			for i := 0; time.Now().Before(end); i++ {
				file, text := fmt.Sprintf("%s/f%d", dir, i), strings.Repeat("x", i%5000)
				ok := check(api.Create(ctx, file, []byte(text))) && check(api.Rename(ctx, file, dir+"/f"))
				got, err := api.ReadFile(ctx, dir+"/f")
				ok = ok && check(err)
				if string(got) != text {
					t.Errorf("worker %d reads %d bytes, wrote %d", worker, len(got), len(text))
				}
				list, err := api.ReadDir(ctx, dir)
				if !ok || !check(err) || len(list) != 1 || !check(api.Chown(ctx, dir, 7, 8)) || !check(api.Chmod(ctx, dir, 0o755)) {
					return
				}
			}
			check(api.RemoveTree(ctx, dir, nil))
		})
	}
	wg.Wait()
	return count.Load()
}

// residentSize is the memory of this process in bytes, after a collection.
func residentSize(t *testing.T) int {
	t.Helper()
	runtime.GC()
	data, err := os.ReadFile("/proc/self/statm")
	must(t, err)
	var total, resident int
	if _, err := fmt.Sscan(string(data), &total, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
