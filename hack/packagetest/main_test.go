// Package packagetest builds the packages, looks into them, and installs, upgrades and
// removes them on a machine with systemd, Gluster and Docker, of hack/machines.
package packagetest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testmachine"
)

func TestMain(m *testing.M) { testmachine.Main(m) }

// The versions of the driver that the packages are built of.
const (
	version = "1.0.0"
	newer   = "1.0.1"
)

// built are packages in a directory.
type built struct {
	dir string
	err error
}

// packages builds both versions once, for both architectures.
var packages = sync.OnceValue(func() (b built) {
	if b.dir, b.err = filepath.Abs("../../bin/packagetest"); b.err != nil {
		return b
	}
	for _, v := range []string{version, newer} {
		cmd := exec.Command("make", "-C", "../..", "--silent", "deb", "rpm", "DIST="+b.dir, "VERSION=v"+v)
		if out, err := testmachine.Output(cmd); err != nil {
			b.err = fmt.Errorf("make deb rpm: %w: %s", err, out)
			return b
		}
	}
	return b
})

// debs and rpms are how the packages of the architectures are called.
var (
	debs = map[string]string{"amd64": "glustervol_%s_amd64.deb", "arm64": "glustervol_%s_arm64.deb"}
	rpms = map[string]string{"amd64": "glustervol-%s-1.x86_64.rpm", "arm64": "glustervol-%s-1.aarch64.rpm"}
)

// packageFile is the path of a package.
func packageFile(t testing.TB, format, version string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs root, Debian's packages and Docker: 'sudo make test-provision' runs it")
	}
	b := packages()
	must(t, b.err)
	return filepath.Join(b.dir, fmt.Sprintf(format, version))
}

// run runs a command, which has to succeed.
func run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := testmachine.Output(exec.Command(program, args...))
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// expect wants words in a text.
func expect(t testing.TB, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is not in: %s", word, text)
		}
	}
}

// equal wants a value to be what it should.
func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, wanted %v", what, got, want)
	}
}

// eventually waits for something to be so.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	const patience = 2 * time.Minute
	for start := time.Now(); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}
