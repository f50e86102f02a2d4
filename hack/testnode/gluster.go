package testnode

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for a daemon; a machine under load may need it.
const patience = 60 * time.Second

// daemons are the running daemons of the machine, by name.
var daemons = struct {
	sync.Mutex
	running map[string]*Daemon
}{running: map[string]*Daemon{}}

// Daemon is a program that runs until it is stopped.
type Daemon struct {
	cmd    *exec.Cmd
	exited chan struct{}
}

// StartDaemon starts a program, its output in a file, and returns when ready
// says that it serves.
func StartDaemon(logFile string, ready func() error, program string, args ...string) (*Daemon, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d := &Daemon{cmd: exec.Command(program, args...), exited: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = d.cmd.Wait()
		close(d.exited)
	}()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := ready()
		if err == nil {
			return d, nil
		}
		select {
		case <-d.exited:
			return nil, fmt.Errorf("%s ended: %s", program, tail(logFile))
		default:
		}
		if time.Now().After(end) {
			d.Kill()
			return nil, fmt.Errorf("%s does not come up: %w: %s", program, err, tail(logFile))
		}
	}
}

func tail(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-2000):])
}

// PID is the daemon's process id.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Exited is closed when the daemon has ended.
func (d *Daemon) Exited() <-chan struct{} { return d.exited }

// Signal sends a signal and does not wait.
func (d *Daemon) Signal(signal os.Signal) { _ = d.cmd.Process.Signal(signal) }

// Kill ends the daemon with SIGKILL and waits for its end.
func (d *Daemon) Kill() {
	d.Signal(syscall.SIGKILL)
	<-d.exited
}

// Stop ends the daemon with SIGTERM, with SIGKILL if that does not help, and
// tells whether it ended by itself.
func (d *Daemon) Stop() bool {
	d.Signal(syscall.SIGTERM)
	select {
	case <-d.exited:
		return true
	case <-time.After(patience):
		d.Kill()
		return false
	}
}

// Gluster has glusterd running on the machine.
func Gluster(t testing.TB) {
	t.Helper()
	Require(t)
	daemons.Lock()
	defer daemons.Unlock()
	if daemons.running["glusterd"] != nil {
		return
	}
	for _, dir := range []string{"/var/lib/glusterd/groups", "/run/gluster"} {
		must(t, os.MkdirAll(dir, 0o755))
	}
	d, err := StartDaemon("/run/glusterd.out", func() error { return exec.Command("gluster", "volume", "list").Run() }, "glusterd", "--no-daemon")
	must(t, err)
	daemons.running["glusterd"] = d
}

// GlusterVolume is a started Gluster volume with its bricks on this machine.
type GlusterVolume struct {
	Name string
	// Bricks are the bricks' directories.
	Bricks []string
	t      testing.TB
}

// volumeNumber makes names unique, so that a late process of one test is not
// taken for one of another.
var volumeNumber = struct {
	sync.Mutex
	last int
}{}

// NewGlusterVolume makes and starts a Gluster volume that is gone at the end of
// the test. kind is what stands between name and bricks on gluster's command
// line ("replica 3"); brickRoot is a directory for the bricks, "" for one on disk.
func NewGlusterVolume(t testing.TB, bricks int, brickRoot string, kind ...string) *GlusterVolume {
	t.Helper()
	volumeNumber.Lock()
	volumeNumber.last++
	name := fmt.Sprintf("gv%d", volumeNumber.last)
	volumeNumber.Unlock()
	return newGlusterVolume(t, name, bricks, brickRoot, kind...)
}

// NamedGlusterVolume is a NewGlusterVolume of one brick with a name that the
// test has chosen.
func NamedGlusterVolume(t testing.TB, name string) *GlusterVolume {
	t.Helper()
	return newGlusterVolume(t, name, 1, "")
}

func newGlusterVolume(t testing.TB, name string, bricks int, brickRoot string, kind ...string) *GlusterVolume {
	t.Helper()
	Gluster(t)
	v := &GlusterVolume{Name: name, t: t}
	if brickRoot == "" {
		brickRoot = t.TempDir()
	}
	args := append([]string{"volume", "create", v.Name}, kind...)
	for i := range bricks {
		brick := filepath.Join(brickRoot, fmt.Sprintf("brick%d", i))
		v.Bricks = append(v.Bricks, brick)
		args = append(args, Address+":"+brick)
	}
	RunGluster(t, append(args, "force")...)
	t.Cleanup(func() {
		if slices.Contains(strings.Fields(RunGluster(t, "volume", "info", v.Name)), "Started") {
			v.Stop()
		}
		RunGluster(t, "volume", "delete", v.Name)
	})
	v.Start()
	return v
}

// Address is how the volume is written as a store.
func (v *GlusterVolume) Address() string { return "gfs1:/" + v.Name }

// Start starts the volume's bricks.
func (v *GlusterVolume) Start() { RunGluster(v.t, "volume", "start", v.Name) }

// Stop ends the volume's bricks; clients stay and answer ENOTCONN.
func (v *GlusterVolume) Stop() { RunGluster(v.t, "volume", "stop", v.Name, "force") }

// RunGluster runs the gluster command and returns its output.
func RunGluster(t testing.TB, args ...string) string {
	t.Helper()
	daemons.Lock() // one transaction at a time is all that glusterd takes
	defer daemons.Unlock()
	out, err := exec.Command("gluster", append([]string{"--mode=script"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("gluster %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// SmallDisk mounts a file system of a given size in bytes until the end of the test.
func SmallDisk(t testing.TB, size int) string {
	t.Helper()
	Require(t)
	dir := t.TempDir()
	must(t, syscall.Mount("testnode", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)))
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// Listen accepts connections on an address of the machine and never answers.
func Listen(t testing.TB, address string) {
	t.Helper()
	Require(t)
	l, err := net.Listen("tcp", address)
	must(t, err)
	t.Cleanup(func() { l.Close() })
}

// Filter has the machine's firewall deal with TCP packets to an address and a
// port as target says: "DROP", as if nobody were there, or "REJECT", as if
// nobody listened. It does so until mend is called, or the test ends.
func Filter(t testing.TB, address, port, target string) (mend func()) {
	t.Helper()
	Require(t)
	rule := []string{"OUTPUT", "-d", address, "-p", "tcp", "--dport", port, "-j", target}
	if target == "REJECT" {
		rule = append(rule, "--reject-with", "tcp-reset")
	}
	run := func(command string) {
		if out, err := exec.Command("iptables", append([]string{"-w", command}, rule...)...).CombinedOutput(); err != nil {
			t.Fatalf("iptables %s %s: %v: %s", command, strings.Join(rule, " "), err, out)
		}
	}
	run("-A")
	mend = sync.OnceFunc(func() { run("-D") })
	t.Cleanup(mend)
	return mend
}

// Filtered is how many packets to an address Filter has dealt with.
func Filtered(t testing.TB, address string) (packets int) {
	t.Helper()
	out, err := exec.Command("iptables", "-w", "-nvxL", "OUTPUT").CombinedOutput()
	if err != nil {
		t.Fatalf("iptables: %v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); slices.Contains(fields, address) {
			n, err := strconv.Atoi(fields[0])
			must(t, err)
			packets += n
		}
	}
	return packets
}

// stopDaemons ends the daemons and what Gluster started on its own; it returns
// those that did not end by themselves.
func stopDaemons() (hung []string) {
	daemons.Lock()
	defer daemons.Unlock()
	for name, d := range daemons.running {
		if !d.Stop() {
			hung = append(hung, name+", which did not end when told to")
		}
	}
	for pid, args := range Processes() {
		// Bricks and the self-heal daemon outlive glusterd by design.
		if strings.Contains(args, "--volfile-id") && strings.Contains(args, "/run/gluster/") || strings.Contains(args, "/var/lib/glusterd/hooks/") {
			endProcess(pid)
		}
	}
	return hung
}

func endProcess(pid int) {
	_ = syscall.Kill(pid, syscall.SIGKILL)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if syscall.Kill(pid, 0) != nil {
			return
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// BrickPID is the process of the volume's first brick.
func (v *GlusterVolume) BrickPID() int {
	v.t.Helper()
	pid := v.brickPID(v.Bricks[0])
	if pid == 0 {
		v.t.Fatalf("no brick of %s runs", v.Name)
	}
	return pid
}

// brickPID is the process of a brick, 0 if it does not run.
func (v *GlusterVolume) brickPID(brick string) int {
	for pid, args := range Processes() {
		if strings.HasPrefix(filepath.Base(strings.Fields(args + " ")[0]), "glusterfsd") && strings.Contains(args, "--brick-name "+brick+" ") {
			return pid
		}
	}
	return 0
}

// HangBrick stops a brick in the middle of what it does, until the end of the test.
func (v *GlusterVolume) HangBrick(brick string) {
	v.t.Helper()
	Hang(v.t, v.brickPID(brick))
}

// KillBricks ends some of the volume's bricks, as a server's crash does.
func (v *GlusterVolume) KillBricks(bricks ...string) {
	v.t.Helper()
	for _, brick := range bricks {
		pid := v.brickPID(brick)
		if pid == 0 {
			v.t.Fatalf("brick %s of %s does not run", brick, v.Name)
		}
		endProcess(pid)
	}
}

// StartBricks starts those of the volume's bricks that do not run.
func (v *GlusterVolume) StartBricks() { RunGluster(v.t, "volume", "start", v.Name, "force") }
