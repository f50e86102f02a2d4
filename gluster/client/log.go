package client

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

const (
	// MaxLogSize is the size in bytes from which a client's log is rotated.
	MaxLogSize = 10 << 20
	// oldLogs is how many rotated logs of a client are kept.
	oldLogs = 3
)

// RotateLog sets a log aside that is larger than limit bytes, and calls reopen,
// which has the client open a new one.
func RotateLog(file string, limit int64, reopen func() error) error {
	if LogSize(file) <= limit {
		return nil
	}
	if err := shiftLogs(file); err != nil {
		return err
	}
	if err := os.Rename(file, file+".1"); err != nil {
		return err
	}
	return reopen()
}

// RotateOpenLog sets a log aside that is larger than limit bytes, for a client
// that cannot be told to open a new one: it copies the log and empties it. What
// is logged meanwhile may be lost. The client has to have it open with O_APPEND.
func RotateOpenLog(file string, limit int64) error {
	if LogSize(file) <= limit {
		return nil
	}
	if err := shiftLogs(file); err != nil {
		return err
	}
	if err := copyFile(file+".1", file); err != nil {
		return err
	}
	return os.Truncate(file, 0)
}

// shiftLogs frees the first old log's name, and drops the oldest.
func shiftLogs(file string) error {
	for i := oldLogs; i > 1; i-- {
		err := os.Rename(fmt.Sprintf("%s.%d", file, i-1), fmt.Sprintf("%s.%d", file, i))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func copyFile(to, from string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

// LogSize is the size of a log in bytes, 0 if there is none.
func LogSize(file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.Size()
}
