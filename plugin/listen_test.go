package plugin

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func dial(path string) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	return conn.Close()
}

func TestListen(t *testing.T) {
	tests := []struct {
		doc  string
		gid  int
		mode fs.FileMode
	}{
		{doc: "for root", gid: -1, mode: 0o600},
		{doc: "for a group", gid: os.Getgid(), mode: 0o660},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			path := filepath.Join(filepath.Dir(socketPath(t)), "plugins", "g.sock")
			for range 2 { // over what the first has left, which is nothing
				l, err := Listen(path, tt.gid)
				must(t, err)
				info, err := os.Lstat(path)
				must(t, err)
				if info.Mode() != tt.mode|fs.ModeSocket {
					t.Errorf("mode %v, want %v", info.Mode(), tt.mode|fs.ModeSocket)
				}
				must(t, dial(path))
				must(t, l.Close())
				if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) > 0 {
					t.Errorf("it left %v, %v", files, err)
				}
			}
		})
	}
}

// TestListenOver has something at the path already.
func TestListenOver(t *testing.T) {
	tests := []struct {
		doc     string
		prepare func(t *testing.T, path string)
		want    string // in the error; "" for success
	}{
		{doc: "the socket of a dead driver", prepare: staleSocket},
		{
			doc: "the socket of a live driver", want: "stop it first",
			prepare: func(t *testing.T, path string) {
				l, err := Listen(path, -1)
				must(t, err)
				t.Cleanup(func() {
					if err := dial(path); err != nil {
						t.Errorf("the live driver cannot be reached any more: %v", err)
					}
					must(t, l.Close())
				})
			},
		},
		{
			doc: "what a driver has left that died while it opened the socket",
			prepare: func(t *testing.T, path string) {
				staleSocket(t, path)
				must(t, os.Rename(path, path+".new"))
			},
		},
		{
			doc: "a file", want: "is no socket",
			prepare: func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte("mine"), 0o600)) },
		},
		{
			doc: "an empty directory", want: "is no socket",
			prepare: func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) },
		},
		{
			doc: "a FIFO", want: "is no socket",
			prepare: func(t *testing.T, path string) { must(t, unix.Mkfifo(path, 0o600)) },
		},
		{
			doc: "a symlink to a file", want: "is no socket",
			prepare: func(t *testing.T, path string) {
				must(t, os.WriteFile(path+".txt", []byte("mine"), 0o600))
				must(t, os.Symlink(path+".txt", path))
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			path := socketPath(t)
			tt.prepare(t, path)
			before, _ := os.Lstat(path)
			l, err := Listen(path, -1)
			if tt.want == "" {
				must(t, err)
				must(t, dial(path))
				must(t, l.Close())
				return
			}
			if err == nil {
				must(t, l.Close())
			}
			wantText(t, err, tt.want)
			wantText(t, err, path)
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("what was there is not any more: %v, %v", after, err)
			}
			if _, err := os.Lstat(path + ".new"); err == nil {
				t.Error("a draft is left")
			}
		})
	}
}

// staleSocket makes a socket that nobody serves.
func staleSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, l.Close())
}

// TestPublish has a directory appear at the path in the last moment.
func TestPublish(t *testing.T) {
	path := socketPath(t)
	staleSocket(t, path+".new")
	must(t, os.Mkdir(path, 0o700))
	if err := publish(path+".new", path, -1); err == nil {
		t.Error("a socket took the place of a directory")
	}
}

// TestListenerClosesOnce: its path may be another driver's by the second time,
// and net/http closes a listener too.
func TestListenerClosesOnce(t *testing.T) {
	first, path := listen(t)
	must(t, first.Close())
	second, err := Listen(path, -1)
	must(t, err)
	if err := first.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed again: %v", err)
	}
	if err := dial(path); err != nil {
		t.Errorf("the next driver cannot be reached: %v", err)
	}
	must(t, second.Close())
}
