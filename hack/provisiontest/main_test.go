// Package provisiontest turns bare machines with systemd, of hack/machines, into nodes by
// hack/provision.sh, and uses, reboots and clears them.
package provisiontest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

func TestMain(m *testing.M) {
	flag.Parse()
	switch {
	case testing.Short():
		os.Exit(m.Run())
	case exec.Command("docker", "version").Run() != nil:
		os.Exit(runWithDocker())
	}
	if _, err := os.Stat(driver); err != nil {
		fmt.Fprintf(os.Stderr, "FAIL: no driver (%v): run 'make build'\n", err)
		os.Exit(1)
	}
	code := m.Run()
	if out, err := machines("down").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "FAIL: hack/machines down: %v: %s\n", err, out)
		code = 1
	}
	os.Exit(code)
}

// runWithDocker runs the tests again, beside a dockerd of their own.
func runWithDocker() int {
	if os.Getenv("DOCKER_HOST") != "" {
		fmt.Fprintln(os.Stderr, "FAIL: no dockerd answers at "+os.Getenv("DOCKER_HOST"))
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
