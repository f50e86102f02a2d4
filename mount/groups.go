package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// clientsGroup is the control group of clients that have left the driver's.
const clientsGroup = "glustervol"

// leaveGroups takes a process out of the control groups that it was started in, below
// the machine's, which are in dir: the container runtime ends all that is in those of
// the driver's container, and a client has to outlive it. With "" for dir, or no
// control groups there, the process stays.
func leaveGroups(dir string, pid int) error {
	if dir == "" {
		return nil
	}
	groups, err := machineGroups(dir)
	var errs []error
	for _, group := range groups {
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("take the Gluster client out of the driver's control groups: %w", err)
	}
	return nil
}

// machineGroups are where processes of the machine itself may be. With version 1 of
// control groups there is a hierarchy for each controller, and it is their roots, since
// a new group of some takes no process until it is configured. With version 2 there is
// one, whose root has systemd's groups, and should have no process beside them.
func machineGroups(dir string) (groups []string, err error) {
	if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil {
		group := filepath.Join(dir, clientsGroup)
		if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		return []string{group}, nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "cgroup.procs"))
	for _, file := range files {
		groups = append(groups, filepath.Dir(file))
	}
	return groups, err
}
