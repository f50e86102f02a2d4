package volume

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/glustervol/glustervol/mount"
)

// earlyNode is a node that knows volume web, on a store whose every answer takes a second.
func earlyNode(t *testing.T) (*node, *Manager, *disk) {
	d := newDisk(t)
	n := newNode(t, "a", d)
	m := n.start(t)
	must(t, m.Create(t.Context(), "web", nil))
	synctest.Wait()
	d.set(func(context.Context, string, string) error {
		time.Sleep(time.Second)
		return nil
	})
	t.Cleanup(func() {
		d.set(nil)
		time.Sleep(time.Minute) // for what is left to be asked behind a Mount
	})
	return n, m, d
}

// TestClientStartsEarly: a client takes its time at the same time as the store.
func TestClientStartsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, m, _ := earlyNode(t)
		n.clients.use = func(context.Context, mount.Source) error {
			time.Sleep(7 * time.Second)
			return nil
		}
		begin := time.Now()
		_, err := m.Mount(t.Context(), "web", "1")
		must(t, err)
		if took := time.Since(begin); took != 7*time.Second {
			t.Errorf("a client that takes 7 s, and 4 answers of the store, took %s", took)
		}
		if users := n.clients.usedBy(); len(users) != 1 || !strings.HasSuffix(users[0], "/web") {
			t.Errorf("users of the client: %q", users)
		}
	})
}

// TestEarlyClientEnds: a client that was started for nothing has no user left, nor is it
// still starting.
func TestEarlyClientEnds(t *testing.T) {
	for name, use := range map[string]func(context.Context, mount.Source) error{
		"started": nil,
		"starts": func(ctx context.Context, _ mount.Source) error {
			<-ctx.Done()
			return ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, m, d := earlyNode(t)
				other := newNode(t, "b", d).start(t)
				must(t, other.Remove(t.Context(), "web", "", false))
				n.clients.use = use
				if _, err := m.Mount(t.Context(), "web", "1"); !errors.Is(err, ErrNotFound) {
					t.Errorf("a volume that was removed: %v", err)
				}
				if users := n.clients.usedBy(); len(users) > 0 {
					t.Errorf("users of the client: %q", users)
				}
			})
		})
	}
}

// TestEarlyClientFails: what keeps a client from starting is told, unless that was before the
// store has answered.
func TestEarlyClientFails(t *testing.T) {
	wrong := errors.New("wrong option")
	for name, c := range map[string]struct {
		after time.Duration
		want  error
	}{
		"before the store has answered": {time.Second, nil},
		"behind":                        {time.Minute, wrong},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, m, _ := earlyNode(t)
				n.clients.use = func(context.Context, mount.Source) error {
					time.Sleep(c.after)
					return wrong
				}
				if _, err := m.Mount(t.Context(), "web", "1"); !errors.Is(err, c.want) {
					t.Errorf("got %v, wanted %v", err, c.want)
				}
				if users := n.clients.usedBy(); (len(users) == 0) != (c.want != nil) {
					t.Errorf("users of the client: %q", users)
				}
			})
		})
	}
}

// TestEarlyDirOfAnother: the directory that was looked up for the volume that was known is not that of another
// one, which has the name by now.
func TestEarlyDirOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, m, d := earlyNode(t)
		other := newNode(t, "b", d).start(t)
		must(t, other.Remove(t.Context(), "web", "", true))
		must(t, other.Create(t.Context(), "web", map[string]string{"path": "srv/www"}))
		path := ""
		n.clients.mount = func(_ context.Context, _ mount.Source, dir string) error {
			path = dir
			return nil
		}
		_, err := m.Mount(t.Context(), "web", "1")
		must(t, err)
		if path != "srv/www" {
			t.Errorf("mounted was %s", path)
		}
	})
}
