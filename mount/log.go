package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// maxLogSize is the size in bytes from which a client's log is rotated.
	maxLogSize = 10 << 20
	// oldLogs is how many rotated logs of a client are kept.
	oldLogs = 3
)

// rotateLog renames a log that has grown too large, and has the client open a
// new one: on SIGHUP a glusterfs process does (glusterfsd.c, reincarnate).
func rotateLog(file string, pid int, limit int64) error {
	if fileSize(file) <= limit {
		return nil
	}
	for i := oldLogs; i > 0; i-- {
		from := file
		if i > 1 {
			from = fmt.Sprintf("%s.%d", file, i-1)
		}
		if err := os.Rename(from, fmt.Sprintf("%s.%d", file, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if pid == 0 {
		return nil
	}
	return unix.Kill(pid, unix.SIGHUP)
}

// fileSize is the size of a file in bytes, 0 if there is none.
func fileSize(file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.Size()
}
