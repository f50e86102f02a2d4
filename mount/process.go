package mount

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a glusterfs process, started by this driver or by an earlier one.
type process struct {
	pid    int
	exited chan struct{} // closed when it has ended
}

// program is the name of the client's program.
const program = "glusterfs"

// startProcess runs glusterfs in a session of its own, so that no signal meant
// for the driver reaches it and it outlives the driver.
func startProcess(binary string, args []string) (*process, error) {
	cmd := exec.Command(binary, args...) //nolint:noctx // it outlives the driver; no context of ours ends it
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{pid: cmd.Process.Pid, exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // its log says more than its exit status
		close(p.exited)
	}()
	return p, nil
}

// adoptProcess watches a process that is no child of ours.
func adoptProcess(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	p := &process{pid: pid, exited: make(chan struct{})}
	go func() {
		defer unix.Close(fd)
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if !errors.Is(err, unix.EINTR) {
				close(p.exited)
				return
			}
		}
	}()
	return p, nil
}

// alive tells whether the process runs. A nil process does not.
func (p *process) alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// closing tells whether the process has ended or is about to: it has no file
// open any more.
func (p *process) closing() bool {
	if !p.alive() {
		return true
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
	return len(files) == 0 && (err == nil || ended(err))
}

// kill ends a process together with the child that it forks to mount, which
// might otherwise do so later. Both are in the process group that it leads.
func (p *process) kill() {
	if p == nil {
		return
	}
	_ = unix.Kill(-p.pid, unix.SIGKILL)
	p.awaitExit(exitPatience)
	for range killTries {
		if errors.Is(unix.Kill(-p.pid, unix.SIGKILL), unix.ESRCH) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// killTries bounds the wait for the child: where process 1 waits for no
// orphan, as in some containers, it stays in the group for ever.
const killTries = 300

// exitPatience is how long a client may take to be gone that has been killed,
// or unmounted everywhere. It needs milliseconds, unless it is stopped or its
// log's disk hangs, and nothing depends on its end.
const exitPatience = 2 * time.Second

// awaitExit waits for the end of a process and tells whether it came. A nil
// process has ended.
func (p *process) awaitExit(patience time.Duration) bool {
	if p == nil {
		return true
	}
	select {
	case <-p.exited:
		return true
	case <-time.After(patience):
		return false
	}
}

// findProcess finds the client that was started last for a mount point; nil
// when none runs. An earlier one may live on, unmounted there, for the
// containers that still have it bound.
func findProcess(mountPoint string) (*process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	pid, started := 0, uint64(0)
	for _, dir := range dirs {
		s, err := clientStart(dir, mountPoint)
		if err != nil && !ended(err) {
			return nil, err
		}
		if s > started {
			started = s
			pid, _ = strconv.Atoi(filepath.Base(dir)) // the pattern has digits alone
		}
	}
	if pid == 0 {
		return nil, nil
	}
	p, err := adoptProcess(pid)
	if ended(err) {
		return nil, nil
	}
	return p, err
}

// ended tells whether an error says that a process is there no more.
func ended(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// clientStart is when the process with the given directory in /proc was
// started, in ticks since the boot; 0 if it is not a client for mountPoint.
func clientStart(dir, mountPoint string) (uint64, error) {
	// The name first: the command line of a process that hangs in a page fault
	// cannot be read, and which one that is, is not ours to say.
	name, err := os.ReadFile(filepath.Join(dir, "comm"))
	if err != nil || string(name) != program+"\n" {
		return 0, err
	}
	cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil || !bytes.HasSuffix(cmdline, []byte("\x00"+mountPoint+"\x00")) {
		return 0, err
	}
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, err
	}
	// proc_pid_stat(5): the name, in parentheses, is field 2, session field 6,
	// starttime field 22. A client leads its session; the child that it forks
	// to mount does not.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if fields[6-3] != filepath.Base(dir) {
		return 0, nil
	}
	return strconv.ParseUint(fields[22-3], 10, 64)
}
