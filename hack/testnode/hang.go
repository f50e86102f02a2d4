package testnode

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// Hang stops a process in the middle of what it does, until resume or the end of
// the test. It returns when none of its threads runs any more.
func Hang(t testing.TB, pid int) (resume func()) {
	t.Helper()
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	// The process may be gone by then.
	resume = sync.OnceFunc(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	t.Cleanup(resume)
	Eventually(t, fmt.Sprintf("process %d stops", pid), func() bool { return stopped(t, pid) })
	return resume
}

func stopped(t testing.TB, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	must(t, err)
	for _, thread := range threads {
		if status, err := os.ReadFile(thread); err == nil && !bytes.Contains(status, []byte("\nState:\tT (stopped)")) {
			return false
		}
	}
	return len(threads) > 0
}
