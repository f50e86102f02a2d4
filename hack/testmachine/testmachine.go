// Package testmachine has the tests of a package run with a dockerd in reach, on machines
// of hack/machines that are the package's own.
package testmachine

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// commandTime is more than any command takes that is to end at all: on a slow machine, Vagrant's three
	// machines take six minutes.
	commandTime = 20 * time.Minute
	// outputTime is how long a command's output may stay open behind its end, by children that it has left.
	outputTime = 10 * time.Second
)

// errLate is why a command was ended.
var errLate = errors.New("it took too long, and was ended")

// Main is the TestMain of such a package. Behind the tests, all of its machines end.
func Main(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		os.Exit(m.Run())
	}
	if exec.Command("docker", "version").Run() != nil {
		os.Exit(runWithDocker())
	}
	code := m.Run()
	if out, err := Command("down").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "FAIL: hack/machines down: %v: %s\n", err, out)
		code = 1
	}
	os.Exit(code)
}

// runWithDocker runs the tests again, beside a dockerd of their own.
func runWithDocker() int {
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		fmt.Fprintln(os.Stderr, "FAIL: no dockerd answers at "+host)
		return 1
	}
	cmd := exec.Command("../with-docker", append([]string{"--network"}, os.Args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	return 0
}

// Command is a call of hack/machines, on the machines of the package that is tested.
func Command(args ...string) *exec.Cmd {
	dir, err := os.Getwd() // a test's is its package's
	if err != nil {
		panic(err)
	}
	cmd := exec.Command("../machines", args...)
	cmd.Env = append(os.Environ(), "GLUSTERVOL_MACHINES=glustervol-"+filepath.Base(dir))
	return cmd
}

// Output runs a command and returns what it has printed, on both of its outputs. Who takes longer
// than commandTime is ended, with all of the children.
func Output(cmd *exec.Cmd) (string, error) { return outputWithin(commandTime, cmd) }

func outputWithin(limit time.Duration, cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = outputTime
	if err := cmd.Start(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), limit, errLate)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer stop()
	err := cmd.Wait()
	if late := context.Cause(ctx); late != nil {
		err = late
	}
	return strings.TrimSpace(out.String()), err
}
