// Package testmachine has the tests of a package run with a dockerd in reach, on machines
// of hack/machines that are the package's own.
package testmachine

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

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
