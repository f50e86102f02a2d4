package clustertest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// shiftVariable says by how many seconds a shiftedDriver's clock is wrong.
const shiftVariable = "GLUSTERVOL_TEST_CLOCK_SHIFT"

// shiftedDriver builds a driver whose clock can be wrong. Go asks the kernel for
// the time without libc, where libfaketime would answer; so the driver is built
// with another time.Now.
func shiftedDriver(t testing.TB) string {
	t.Helper()
	path, err := buildShifted()
	must(t, err)
	return path
}

var buildShifted = sync.OnceValues(func() (string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src/time")
	dir, err := os.MkdirTemp("/var/lib/glustervol", "clock")
	if err != nil {
		return "", err
	}
	overlay, err := shiftedTime(source, dir)
	if err != nil {
		return "", err
	}
	return build("shifted", "-overlay="+overlay)
})

// shiftedTime writes an overlay for 'go build' to a directory. That time.Now is
// what it is meant to change, the test sees by what the driver tells.
func shiftedTime(source, dir string) (overlay string, err error) {
	original, err := os.ReadFile(filepath.Join(source, "time.go"))
	if err != nil {
		return "", err
	}
	const asks = "sec, nsec, mono := runtimeNow()\n"
	files := map[string]string{
		"time.go": strings.ReplaceAll(string(original), asks, asks+"\tsec += clockShift\n"),
		"shift.go": `package time

import "syscall"

var clockShift = func() int64 {
	text, _ := syscall.Getenv("` + shiftVariable + `")
	seconds, _ := atoi(text)
	return int64(seconds)
}()
`,
	}
	replace := map[string]string{}
	for name, text := range files {
		replace[filepath.Join(source, name)] = filepath.Join(dir, name)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, data, 0o600)
}
