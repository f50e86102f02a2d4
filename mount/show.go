package mount

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// show has the mount on its second path, if it is to have one. What was shown there of
// a process that has died makes way; containers that hold it keep it.
func (c *Client) show() error {
	if c.shown == "" || c.mountedOn(c.shown) {
		return nil
	}
	if err := detach(c.shown); err != nil {
		return &fs.PathError{Op: "unmount", Path: c.shown, Err: err}
	}
	if err := os.MkdirAll(c.shown, 0o700); err != nil {
		return err
	}
	if err := unix.Mount(c.Path(), c.shown, "", unix.MS_BIND, ""); err != nil {
		return &fs.PathError{Op: "mount", Path: c.shown, Err: err}
	}
	return nil
}

// hide takes away the second path.
func (c *Client) hide() error {
	if c.shown == "" {
		return nil
	}
	if err := detach(c.shown); err != nil {
		return &fs.PathError{Op: "unmount", Path: c.shown, Err: err}
	}
	_ = os.Remove(c.shown) // a directory that stays is in nobody's way
	return nil
}
