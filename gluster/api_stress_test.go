package gluster_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/hack/testnode"
)

// TestAPIStress runs mixed operations in 64 goroutines while signals arrive, for a
// minute with the race detector. Without it, it is shorter, and looks at the
// memory before and after: the detector itself keeps some 750 bytes for each
// operation, no matter whether that goes over libgfapi or to a directory.
func TestAPIStress(t *testing.T) {
	duration := 15 * time.Second
	if raceDetector {
		duration = time.Minute
	}
	gv := testnode.NewGlusterVolume(t, 1, "")
	api := openAPI(t, gv.Address())
	stop := rainSignals(t)
	stress(t, api, 5*time.Second) // fills the caches
	before := residentSize(t)
	operations := stress(t, api, duration)
	after := residentSize(t)
	stop()
	t.Logf("%d operations in %s; resident memory %d MB before, %d MB after", operations, duration, before>>20, after>>20)
	if after > before+16<<20 && !raceDetector {
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
				_, err := api.Create(ctx, file, []byte(text))
				ok := check(err) && check(api.Rename(ctx, file, dir+"/f"))
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
