// Package testnode gives a package's tests a machine of their own: namespaces
// for network, mounts, processes and host name, with an empty /run and empty
// directories for the daemons. In it real daemons run, glusterd and dockerd, as
// root, and whatever happens there, the machine outside keeps nothing of it.
//
// A package uses it by
//
//	func TestMain(m *testing.M) { testnode.Main(m) }
//
// Tests that need the machine begin with testnode.Require or with what needs
// it in turn, Gluster or Docker. With -short they are skipped, and the rest runs
// anywhere and as anybody.
package testnode

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// stage tells a re-executed test binary which part it plays: "init" prepares
// the machine as its process 1, "inside" runs the tests.
const stage = "GLUSTERVOL_TESTNODE"

// Addresses of the machine, with names in its /etc/hosts. RFC 5737 keeps them
// out of every network; here they are on the loopback device, since Gluster
// takes no brick on 127.0.0.1.
const (
	Address = "198.51.100.1" // gfs1
	hosts   = "127.0.0.1 localhost\n::1 localhost\n" + Address + " gfs1 testnode\n198.51.100.2 gfs2\n198.51.100.3 gfs3\n"
)

// Main runs the tests of a package in a machine of their own and exits. The
// run fails if the tests leave a process or a mount behind.
func Main(m *testing.M) {
	flag.Parse()
	switch os.Getenv(stage) {
	case "init":
		os.Exit(initMain())
	case "inside":
		os.Exit(insideMain(m))
	}
	if testing.Short() {
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "FAIL: these tests mount file systems and run glusterd and dockerd, which takes root: 'sudo make test'; 'make test-unit' runs the others")
		os.Exit(1)
	}
	os.Exit(outsideMain())
}

// Require skips a test under -short and fails it outside of Main's machine.
func Require(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs root and real daemons: 'sudo make test' runs it")
	}
	if os.Getenv(stage) != "inside" {
		t.Fatal("the package's TestMain does not call testnode.Main")
	}
}

// outsideMain runs this test binary again as process 1 of new namespaces.
func outsideMain() int {
	runtime.LockOSThread() // Pdeathsig is about the thread that started the child
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), stage+"=init")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	return exitCode(cmd.Run())
}

func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	default:
		fmt.Fprintln(os.Stderr, "FAIL: testnode:", err)
		return 1
	}
}

// initMain prepares the machine, starts the tests in it, and reaps orphans
// until they are through: the duties of a process 1.
func initMain() int {
	if err := prepareMachine(); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: testnode:", err)
		return 1
	}
	if err := os.Setenv(stage, "inside"); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: testnode:", err)
		return 1
	}
	tests, err := syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: testnode:", err)
		return 1
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			fmt.Fprintln(os.Stderr, "FAIL: testnode: wait:", err)
			return 1
		case pid == tests && status.Exited():
			return status.ExitStatus()
		case pid == tests && status.Signaled():
			fmt.Fprintln(os.Stderr, "FAIL: testnode: the tests were ended by", status.Signal())
			return 1
		}
	}
}

// ownDirs are the directories that daemons and driver write to. The machine has
// them empty.
var ownDirs = []string{
	"/run", "/etc/docker", "/var/lib/docker", "/var/lib/containerd", "/var/lib/glusterd", "/var/log/glusterfs",
	"/var/lib/glustervol", "/var/log/glustervol",
}

// hideGeoReplication keeps glusterd from calling a dozen Python programs at each start,
// which takes it 2 s. It asks for a version, and is content with any.
func hideGeoReplication() error {
	const none = "/run/gsyncd"
	if err := os.WriteFile(none, []byte("#!/bin/sh\necho gsyncd\n"), 0o755); err != nil {
		return err
	}
	for _, pattern := range []string{"/usr/lib/*/glusterfs/gsyncd", "/usr/libexec/glusterfs/gsyncd"} {
		found, _ := filepath.Glob(pattern) // the pattern is good
		for _, program := range found {
			if err := unix.Mount(none, program, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("mount %s: %w", program, err)
			}
		}
	}
	return nil
}

func prepareMachine() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, dir := range ownDirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("testnode", dir, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	if err := os.WriteFile("/run/hosts", []byte(hosts), 0o644); err != nil {
		return err
	}
	if err := unix.Mount("/run/hosts", "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount /etc/hosts: %w", err)
	}
	if err := hideGeoReplication(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("testnode")); err != nil {
		return err
	}
	// As systemd leaves it: a mount of the driver reaches dockerd and back.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make mounts shared: %w", err)
	}
	script := "ip link set lo up"
	for i := range 3 {
		script += fmt.Sprintf(" && ip addr add 198.51.100.%d/32 dev lo", i+1)
	}
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		return fmt.Errorf("network: %w: %s", err, out)
	}
	return nil
}

// insideMain runs the tests and looks for what they leave behind.
func insideMain(m *testing.M) int {
	before, err := mountPoints()
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: testnode:", err)
		return 1
	}
	code := m.Run()
	for _, left := range []func() []string{stopDaemons, func() []string { return leftMounts(before) }, leftProcesses} {
		for _, what := range left() {
			fmt.Fprintln(os.Stderr, "FAIL: the tests leave behind:", what)
			code = 1
		}
	}
	return code
}

func mountPoints() (map[string]bool, error) {
	table, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, err
	}
	points := map[string]bool{}
	for _, mount := range table {
		points[mount.Mountpoint] = true
	}
	return points, nil
}

func leftMounts(before map[string]bool) (left []string) {
	now, err := mountPoints()
	if err != nil {
		return []string{err.Error()}
	}
	for point := range now {
		if !before[point] {
			left = append(left, "mount "+point)
		}
	}
	return left
}

// leftProcesses are all but process 1 and this one: the machine is ours alone.
func leftProcesses() (left []string) {
	for pid, args := range Processes() {
		if pid != 1 && pid != os.Getpid() {
			left = append(left, fmt.Sprintf("process %d %s", pid, args))
		}
	}
	return left
}

// Processes are the command lines of all processes of the machine, those that
// have ended but wait for their parent included, by process id.
func Processes() map[int]string {
	list := map[int]string{}
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is good
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		args, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil {
			continue // it has ended
		}
		if len(args) == 0 {
			args, _ = os.ReadFile(filepath.Join(dir, "comm"))
		}
		list[pid] = strings.TrimSpace(strings.ReplaceAll(string(args), "\x00", " "))
	}
	return list
}
