package mount

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// fsType is how the kernel's mount table calls a mount of glusterfs.
const fsType = "fuse.glusterfs"

// lookUpTable finds the mount of glusterfs that covers mountPoint, and its st_dev.
func lookUpTable(mountPoint string) (device uint64, mounted bool, err error) {
	table, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != mountPoint, false })
	if err != nil {
		return 0, false, fmt.Errorf("read the mount table: %w", err)
	}
	if len(table) == 0 {
		return 0, false, nil
	}
	top := table[len(table)-1] // the table has what was mounted later below
	if top.FSType != fsType {
		return 0, false, fmt.Errorf("%s is a mount of type %s from %s, which glustervol did not make: unmount it", mountPoint, top.FSType, top.Source)
	}
	return unix.Mkdev(uint32(top.Major), uint32(top.Minor)), true, nil
}

var errExited = errors.New("the Gluster client ended")

// awaitTable waits until a mount of glusterfs covers mountPoint and returns its
// st_dev, or fails when the client exits or ctx is done.
func awaitTable(ctx context.Context, mountPoint string, exited <-chan struct{}) (device uint64, err error) {
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return 0, err
	}
	defer table.Close()
	for {
		device, mounted, err := lookUpTable(mountPoint)
		if mounted || err != nil {
			return device, err
		}
		select {
		case <-exited:
			return 0, errExited
		case <-ctx.Done():
			return 0, fmt.Errorf("%w (%w)", ErrHung, context.Cause(ctx))
		default:
		}
		// The kernel flags POLLPRI when the table changes (proc(5)); the time
		// out is for the two other events.
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(table.Fd()), Events: unix.POLLPRI}}, 20)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("wait for the mount table: %w", err)
		}
	}
}
