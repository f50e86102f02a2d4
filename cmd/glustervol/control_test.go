package main

import (
	"debug/elf"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/plugin"
)

// TestNoClientWithoutContainer: over libgfapi, volumes are made, listed and
// removed without a Gluster client on the node; the first container starts one,
// and behind the last it ends.
func TestNoClientWithoutContainer(t *testing.T) {
	startNode(t)
	expectClients := func(what string, want int) {
		t.Helper()
		if data, control := clientProcesses(); len(data) != want || len(control) != 0 {
			t.Errorf("%s: clients %d for data, %d for the control plane; want %d", what, data, control, want)
		}
	}
	create(t, "web", "uid=999", "mode=0750")
	docker(t, "volume", "rm", "web")
	cli(t, "trash", "restore", "web")
	cli(t, "ls")
	expectClients("a node without a container", 0)
	startContainer(t, "box", "-v=web:/data")
	startContainer(t, "other", "-v=logs:/data")
	expectClients("two containers", 1)
	docker(t, "rm", "--force", "box")
	expectClients("the last container", 1)
	docker(t, "rm", "--force", "other")
	expectUnused(t, "web", "logs")
	docker(t, "volume", "rm", "web", "logs")
	cli(t, "trash", "empty")
	expectClients("behind the last container", 0)
}

// TestWithoutLibrary hides libgfapi: the driver chooses the control mount and
// says why. Who insists on the library is told that it is not there.
func TestWithoutLibrary(t *testing.T) {
	hideLibrary(t)
	_, d := startNode(t)
	create(t, "web", "uid=999")
	runScript(t, "echo hi > /data/f", "-v=web:/data")
	docker(t, "volume", "rm", "web")
	cli(t, "trash", "restore", "web")
	if got := runScript(t, "cat /data/f", "-v=web:/data"); got != "hi" {
		t.Errorf("read %q", got)
	}
	if _, control := clientProcesses(); len(control) != 1 {
		t.Errorf("clients of the control plane: %d", control)
	}
	for _, control := range []string{cliJSON[plugin.Info](t, "info").Stores[0].Control.Why, inspect(t, "web").Control.Why} {
		expect(t, control, "libgfapi.so.0", "cannot be used")
	}
	expect(t, cli(t, "info"), "control plane fuse: libgfapi cannot be used")
	expect(t, cli(t, "inspect", "web"), "fuse: libgfapi cannot be used")

	d.stop()
	cliFails(t, []string{"serve", "--control=gfapi", "gfs1:/gv0"}, "--control", "libgfapi.so.0", "cannot be used", "install")
	d.start()
}

// hideLibrary puts empty files over libgfapi until the end of the test.
func hideLibrary(t *testing.T) {
	t.Helper()
	testnode.Require(t)
	files, err := filepath.Glob("/usr/lib*/*/libgfapi.so.0")
	if err != nil || len(files) == 0 {
		t.Fatalf("libgfapi is not where it is looked for: %v, %v", files, err)
	}
	for _, file := range files {
		if err := unix.Mount("/dev/null", file, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(file, 0); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOneBinary: what is built without cgo for each architecture needs the C
// library of the machine and nothing else, not even libgfapi.
func TestOneBinary(t *testing.T) {
	if testing.Short() {
		t.Skip("builds twice: 'sudo make test' runs it")
	}
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "glustervol")
			cmd := exec.Command("go", "build", "-o", file, ".")
			cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			binary, err := elf.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer binary.Close()
			libraries, err := binary.ImportedLibraries()
			slices.Sort(libraries)
			if err != nil || !slices.Equal(libraries, []string{"libc.so.6", "libdl.so.2", "libpthread.so.0"}) {
				t.Errorf("it needs %v, %v", libraries, err)
			}
			symbols, err := binary.ImportedSymbols()
			if err != nil {
				t.Fatal(err)
			}
			for _, symbol := range symbols {
				if symbol.Version != "" {
					t.Errorf("%s is wanted of %s: an older C library does not have that", symbol.Name, symbol.Version)
				}
			}
		})
	}
}
