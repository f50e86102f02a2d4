package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/mount"
	"github.com/glustervol/glustervol/volume"
)

// serveAdmin returns a client of an Admin that serves a socket.
func serveAdmin(t *testing.T, m AdminManager) *AdminClient {
	t.Helper()
	l, path := listen(t)
	info := func() Info {
		return Info{
			Version: "1.2.3", Node: volume.Node{ID: "node-a", Session: "1"}, PID: 7, Socket: "/run/docker/plugins/glustervol.sock",
			Stores:  []volume.StoreInfo{{Address: "gfs1:/gv0", Default: true, Control: volume.ControlInfo{Kind: "fuse", Why: "a test"}, Reached: true, Volumes: 1}},
			Clients: []mount.Status{{Key: "gv0-1", PID: 7, Users: []string{"web"}}},
		}
	}
	release := func(_ context.Context, name string) error {
		if name == "stuck" {
			return errors.New("release volume stuck: no dockerd")
		}
		return nil
	}
	a := NewAdmin(m, info, func(context.Context) error { return nil }, release, new(logs).logger())
	served := make(chan error, 1)
	go func() { served <- a.Serve(l) }()
	c := NewAdminClient(path)
	t.Cleanup(func() {
		must(t, a.Close())
		must(t, <-served)
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
	})
	return c
}

// webInfo is webVolume for the command line.
func webInfo() VolumeInfo {
	v := webVolume()
	return VolumeInfo{
		Name: "web", ID: v.ID, Store: "gfs1:/gv0", Path: "volumes/web", Created: v.Created, Options: v.Options,
		Mountpoint: v.Mountpoint, Users: []string{"a"}, Client: v.Client,
	}
}

// TestAdmin has each call go to the manager and back.
func TestAdmin(t *testing.T) {
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	found := func(context.Context, string) (volume.Volume, error) { return webVolume(), nil }
	tests := []struct {
		doc string
		// manager notes with say what it was asked for.
		manager func(say func(format string, args ...any)) *fakeManager
		call    func(ctx context.Context, c *AdminClient) (any, error)
		said    []string
		want    any
	}{
		{
			doc:     "info",
			manager: func(func(string, ...any)) *fakeManager { return &fakeManager{} },
			call:    func(ctx context.Context, c *AdminClient) (any, error) { return c.Info(ctx) },
			want: Info{
				Version: "1.2.3", Node: volume.Node{ID: "node-a", Session: "1"}, PID: 7, Socket: "/run/docker/plugins/glustervol.sock",
				Stores:  []volume.StoreInfo{{Address: "gfs1:/gv0", Default: true, Control: volume.ControlInfo{Kind: "fuse", Why: "a test"}, Reached: true, Volumes: 1}},
				Clients: []mount.Status{{Key: "gv0-1", PID: 7, Users: []string{"web"}}},
			},
		},
		{
			doc: "list",
			manager: func(func(string, ...any)) *fakeManager {
				return &fakeManager{list: func() []volume.Volume { return []volume.Volume{webVolume()} }}
			},
			call: func(ctx context.Context, c *AdminClient) (any, error) { return c.List(ctx) },
			want: []VolumeInfo{webInfo()},
		},
		{
			doc: "list of nothing",
			manager: func(func(string, ...any)) *fakeManager {
				return &fakeManager{list: func() []volume.Volume { return nil }}
			},
			call: func(ctx context.Context, c *AdminClient) (any, error) { return c.List(ctx) },
			want: []VolumeInfo{},
		},
		{
			doc: "inspect",
			manager: func(say func(string, ...any)) *fakeManager {
				return &fakeManager{get: func(ctx context.Context, name string) (volume.Volume, error) {
					say("get %s", name)
					return found(ctx, name)
				}}
			},
			call: func(ctx context.Context, c *AdminClient) (any, error) { return c.Inspect(ctx, "web") },
			said: []string{"get web"},
			want: webInfo(),
		},
		{
			doc: "create",
			manager: func(say func(string, ...any)) *fakeManager {
				return &fakeManager{
					get: found,
					create: func(_ context.Context, name string, options map[string]string) error {
						say("create %s %v %v", name, options, options == nil)
						return nil
					},
				}
			},
			call: func(ctx context.Context, c *AdminClient) (any, error) {
				if _, err := c.Create(ctx, "web", nil); err != nil {
					return nil, err
				}
				return c.Create(ctx, "web", map[string]string{"client-options": "ro,acl", "path": "a b"})
			},
			said: []string{"create web map[] true", "create web map[client-options:ro,acl path:a b] false"},
			want: webInfo(),
		},
		{
			doc: "remove",
			manager: func(say func(string, ...any)) *fakeManager {
				return &fakeManager{remove: func(_ context.Context, name, store string, keepData bool) error {
					say("remove %s %q %v", name, store, keepData)
					return nil
				}}
			},
			call: func(ctx context.Context, c *AdminClient) (any, error) {
				return nil, errors.Join(
					c.Remove(ctx, "web", "", false), c.Remove(ctx, "web", "", true),
					c.Remove(ctx, "web", "gfs1,[fd00::2]:/gv0/a b&c", false), c.Remove(ctx, "w.e-b_", "gfs1:/gv0", true))
			},
			said: []string{
				`remove web "" false`, `remove web "" true`, `remove web "gfs1,[fd00::2]:/gv0/a b&c" false`, `remove w.e-b_ "gfs1:/gv0" true`,
			},
		},
		{
			doc: "mount for the first time",
			manager: func(say func(string, ...any)) *fakeManager {
				return &fakeManager{
					get: found,
					mount: func(_ context.Context, name, id string) (string, error) {
						say("mount %s %s", name, id)
						return "/mnt", nil
					},
				}
			},
			call: func(ctx context.Context, c *AdminClient) (any, error) { return c.Mount(ctx, "web") },
			said: []string{"mount web manual"},
			want: "/mnt",
		},
		{
			doc: "remove what a container of this node uses",
			manager: func(func(string, ...any)) *fakeManager {
				return &fakeManager{containers: []volume.ContainerRef{{Name: "db", State: "exited"}}}
			},
			call: func(ctx context.Context, c *AdminClient) (any, error) {
				err := c.Remove(ctx, "web", "", false)
				return fmt.Sprint(err), nil
			},
			want: "remove volume web: volume web is in use on this node by container db (exited); stop and remove what uses it first",
		},
		{
			doc: "mount once more: it counts once",
			manager: func(say func(string, ...any)) *fakeManager {
				return &fakeManager{
					get: func(context.Context, string) (volume.Volume, error) {
						v := webVolume()
						v.Users = []string{"a", volume.ManualUser}
						return v, nil
					},
					mount: func(_ context.Context, name, id string) (string, error) {
						say("mount %s %s", name, id)
						return "/mnt", nil
					},
					unmount: func(_ context.Context, name, id string) error { say("unmount %s %s", name, id); return nil },
				}
			},
			call: func(ctx context.Context, c *AdminClient) (any, error) { return c.Mount(ctx, "web") },
			said: []string{"mount web manual", "unmount web manual"},
			want: "/mnt",
		},
		{
			doc: "unmount",
			manager: func(say func(string, ...any)) *fakeManager {
				return &fakeManager{
					get:        found,
					unmountAll: func(_ context.Context, name, id string) error { say("unmount all %s %s", name, id); return nil },
				}
			},
			call: func(ctx context.Context, c *AdminClient) (any, error) { return nil, c.Unmount(ctx, "web") },
			said: []string{"unmount all web manual"},
		},
		{
			doc: "trash",
			manager: func(func(string, ...any)) *fakeManager {
				return &fakeManager{trash: func(context.Context) ([]volume.Trashed, error) {
					return []volume.Trashed{{Entry: "web.1", Name: "web", Store: "gfs1:/gv0", Created: created, Removed: created, Purging: true}}, nil
				}}
			},
			call: func(ctx context.Context, c *AdminClient) (any, error) { return c.Trash(ctx) },
			want: []volume.Trashed{{Entry: "web.1", Name: "web", Store: "gfs1:/gv0", Created: created, Removed: created, Purging: true}},
		},
		{
			doc: "empty trash",
			manager: func(func(string, ...any)) *fakeManager {
				return &fakeManager{trash: func(context.Context) ([]volume.Trashed, error) { return nil, nil }}
			},
			call: func(ctx context.Context, c *AdminClient) (any, error) { return c.Trash(ctx) },
			want: []volume.Trashed{},
		},
		{
			doc: "reports",
			manager: func(func(string, ...any)) *fakeManager {
				return &fakeManager{reports: []volume.StoreReport{{Address: "gfs1:/gv0", Format: 1, Usage: gluster.Usage{Total: 2, Free: 1}}}}
			},
			call: func(ctx context.Context, c *AdminClient) (any, error) { return c.Reports(ctx) },
			want: []volume.StoreReport{{Address: "gfs1:/gv0", Format: 1, Usage: gluster.Usage{Total: 2, Free: 1}}},
		},
		{
			doc: "restore",
			manager: func(say func(string, ...any)) *fakeManager {
				return &fakeManager{restore: func(_ context.Context, which, as string) (string, error) {
					say("restore %s as %q", which, as)
					return "db", nil
				}}
			},
			call: func(ctx context.Context, c *AdminClient) (any, error) {
				if _, err := c.Restore(ctx, "web", ""); err != nil {
					return nil, err
				}
				return c.Restore(ctx, "web.1", "db")
			},
			said: []string{`restore web as ""`, `restore web.1 as "db"`},
			want: "db",
		},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			var said []string
			c := serveAdmin(t, tt.manager(func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }))
			got, err := tt.call(t.Context(), c)
			must(t, err)
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
			if !slices.Equal(said, tt.said) {
				t.Errorf("the manager was asked to %q, want %q", said, tt.said)
			}
		})
	}
}

// TestAdminErrors keep their words.
func TestAdminErrors(t *testing.T) {
	const text = `volume "web": <no> & "such" volume; größer`
	fail := errors.New(text)
	m := &fakeManager{
		get:        func(context.Context, string) (volume.Volume, error) { return volume.Volume{}, fail },
		create:     func(context.Context, string, map[string]string) error { return fail },
		remove:     func(context.Context, string, string, bool) error { return fail },
		trash:      func(context.Context) ([]volume.Trashed, error) { return nil, fail },
		restore:    func(context.Context, string, string) (string, error) { return "", fail },
		emptyTrash: func(context.Context, []string, func(volume.Progress)) error { return fail },
	}
	calls := map[string]func(ctx context.Context, c *AdminClient) error{
		"inspect": func(ctx context.Context, c *AdminClient) error { _, err := c.Inspect(ctx, "web"); return err },
		"create":  func(ctx context.Context, c *AdminClient) error { _, err := c.Create(ctx, "web", nil); return err },
		"remove":  func(ctx context.Context, c *AdminClient) error { return c.Remove(ctx, "web", "", false) },
		"mount":   func(ctx context.Context, c *AdminClient) error { _, err := c.Mount(ctx, "web"); return err },
		"unmount": func(ctx context.Context, c *AdminClient) error { return c.Unmount(ctx, "web") },
		"trash":   func(ctx context.Context, c *AdminClient) error { _, err := c.Trash(ctx); return err },
		"restore": func(ctx context.Context, c *AdminClient) error { _, err := c.Restore(ctx, "web", ""); return err },
		"empty": func(ctx context.Context, c *AdminClient) error {
			return c.EmptyTrash(ctx, nil, func(volume.Progress) {})
		},
	}
	for call, fn := range calls {
		t.Run(call, func(t *testing.T) {
			if err := fn(t.Context(), serveAdmin(t, m)); err == nil || err.Error() != text {
				t.Errorf("got  %v\nwant %s", err, text)
			}
		})
	}
}

// TestAdminMountFails tells of a mount that stays, and of one that does not.
func TestAdminMountFails(t *testing.T) {
	v := webVolume()
	v.Users = []string{volume.ManualUser}
	c := serveAdmin(t, &fakeManager{
		get:   func(context.Context, string) (volume.Volume, error) { return v, nil },
		mount: func(context.Context, string, string) (string, error) { return "", errors.New("no brick") },
	})
	path, err := c.Mount(t.Context(), "web")
	wantText(t, err, "no brick")
	if path != "" {
		t.Errorf("mounted on %q", path)
	}
}

// TestAdminStatus is for people with curl.
func TestAdminStatus(t *testing.T) {
	for want, err := range map[int]error{
		http.StatusNotFound:           fmt.Errorf("x: %w", volume.ErrNotFound),
		http.StatusConflict:           fmt.Errorf("x: %w", &volume.InUseError{Volume: "web"}),
		http.StatusServiceUnavailable: fmt.Errorf("x: %w", volume.ErrUnreachable),
		http.StatusBadRequest:         errors.New("x"),
	} {
		if got := statusCode(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
	if got := statusCode(volume.ErrNotInTrash); got != http.StatusNotFound {
		t.Errorf("%v: %d", volume.ErrNotInTrash, got)
	}
}

// TestAdminTrashInPart has a store down: what is known is told, and the rest.
func TestAdminTrashInPart(t *testing.T) {
	c := serveAdmin(t, &fakeManager{trash: func(context.Context) ([]volume.Trashed, error) {
		return []volume.Trashed{{Entry: "web.1"}}, errors.New("gfs2:/gv1 is down")
	}})
	list, err := c.Trash(t.Context())
	wantText(t, err, "gfs2:/gv1 is down")
	if len(list) != 1 || list[0].Entry != "web.1" {
		t.Errorf("got %+v", list)
	}
}

// TestAdminEmptyTrash streams how far it is.
func TestAdminEmptyTrash(t *testing.T) {
	seen := make(chan struct{})
	c := serveAdmin(t, &fakeManager{emptyTrash: func(ctx context.Context, which []string, report func(volume.Progress)) error {
		if !slices.Equal(which, []string{"web", "db.1"}) {
			t.Errorf("emptied of %q", which)
		}
		report(volume.Progress{Entry: "web.1", Number: 1, Total: 2})
		select { // a report is not kept back until there are more
		case <-seen:
		case <-time.After(10 * time.Second):
			t.Error("the first report did not arrive")
		}
		for n := range 1000 { // too many to tell all
			report(volume.Progress{Entry: "web.1", Number: 1, Total: 2, Removed: n})
		}
		report(volume.Progress{Entry: "db.1", Number: 2, Total: 2})
		return errors.New("db.1 is left")
	}})
	first := map[string]volume.Progress{}
	reports := 0
	err := c.EmptyTrash(t.Context(), []string{"web", "db.1"}, func(p volume.Progress) {
		if reports++; reports == 1 {
			close(seen)
		}
		if _, found := first[p.Entry]; !found {
			first[p.Entry] = p
		}
	})
	wantText(t, err, "db.1 is left")
	want := map[string]volume.Progress{"web.1": {Entry: "web.1", Number: 1, Total: 2}, "db.1": {Entry: "db.1", Number: 2, Total: 2}}
	if !maps.Equal(first, want) || reports > 100 {
		t.Errorf("of %d reports, the first of each entry are %+v", reports, first)
	}
}

// TestAdminEmptyTrashLeft has the person leave, which ends the purge.
func TestAdminEmptyTrashLeft(t *testing.T) {
	ended := make(chan struct{})
	c := serveAdmin(t, &fakeManager{emptyTrash: func(ctx context.Context, _ []string, report func(volume.Progress)) error {
		defer close(ended)
		report(volume.Progress{Entry: "web.1", Number: 1, Total: 1})
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
			t.Error("the driver does not notice that the person has left")
		}
		return ctx.Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	err := c.EmptyTrash(ctx, nil, func(volume.Progress) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	<-ended
}

// TestAdminEmptyTrashBroken has the driver be killed in the middle.
func TestAdminEmptyTrashBroken(t *testing.T) {
	c := serveAdmin(t, &fakeManager{emptyTrash: func(_ context.Context, _ []string, report func(volume.Progress)) error {
		report(volume.Progress{Entry: "web.1", Number: 1, Total: 1})
		panic(http.ErrAbortHandler)
	}})
	err := c.EmptyTrash(t.Context(), nil, func(volume.Progress) {})
	wantText(t, err, "the driver left in the middle of the purge; call it again, and it goes on")
}

// TestAdminClientWithoutDriver says what to do.
func TestAdminClientWithoutDriver(t *testing.T) {
	tests := []struct {
		doc     string
		prepare func(t *testing.T, path string)
		want    []string
	}{
		{doc: "no socket", want: []string{"does not run on this node", "systemctl start glustervol"}},
		{doc: "the socket of a dead driver", prepare: staleSocket, want: []string{"does not run on this node", "systemctl start glustervol"}},
		{
			doc: "a driver of another version", want: []string{"404 Not Found", "is it of another version?"},
			prepare: func(t *testing.T, path string) {
				l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
				must(t, err)
				server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
				go func() { _ = server.Serve(l) }()
				t.Cleanup(func() { must(t, server.Close()) })
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			path := socketPath(t)
			if tt.prepare != nil {
				tt.prepare(t, path)
			}
			c := NewAdminClient(path)
			_, listErr := c.List(t.Context())
			for call, err := range map[string]error{
				"list": listErr, "remove": c.Remove(t.Context(), "web", "", false), "empty": c.EmptyTrash(t.Context(), nil, nil),
			} {
				for _, want := range tt.want {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("%s: error %v, want %q in it", call, err, want)
					}
				}
			}
		})
	}
}

// TestAdminClientAsUser is what somebody without root's rights is told.
func TestAdminClientAsUser(t *testing.T) {
	err := NewAdminClient("/run/glustervol/admin.sock").explain(&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", unix.EACCES)})
	wantText(t, err, "/run/glustervol/admin.sock is root's; use sudo")
}

// TestAdminNames has names on the command line that are none: they must not
// become another request.
func TestAdminNames(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "../info", "web?store=x", "web#x", "a b", "ü", "%2e%2e", "x\x00"} {
		t.Run(name, func(t *testing.T) {
			asked := []string{}
			note := func(name string) { asked = append(asked, name) }
			c := serveAdmin(t, &fakeManager{
				get: func(_ context.Context, name string) (volume.Volume, error) {
					note(name)
					return volume.Volume{}, volume.CheckName(name)
				},
				remove: func(_ context.Context, name, _ string, _ bool) error { note(name); return volume.CheckName(name) },
			})
			_, inspectErr := c.Inspect(t.Context(), name)
			_, mountErr := c.Mount(t.Context(), name)
			want := volume.CheckName(name).Error()
			for call, err := range map[string]error{
				"inspect": inspectErr, "mount": mountErr, "unmount": c.Unmount(t.Context(), name), "remove": c.Remove(t.Context(), name, "", false),
			} {
				if err == nil || err.Error() != want {
					t.Errorf("%s: error %v, want %s", call, err, want)
				}
			}
			if slices.ContainsFunc(asked, func(a string) bool { return a != name }) {
				t.Errorf("the manager was asked for %q", asked)
			}
		})
	}
}

// TestProfiles asks for each of Go's profiles, on the socket that is root's, and not
// on the one that may be a group's.
func TestProfiles(t *testing.T) {
	admin, docker := serveAdmin(t, &fakeManager{}), serveDocker(t, &fakeManager{})
	for path, want := range map[string]string{
		"":                   "full goroutine stack dump",
		"goroutine?debug=1":  "goroutine profile: total ",
		"heap?debug=1":       "heap profile: ",
		"cmdline":            os.Args[0],
		"symbol":             "num_symbols: ",
		"profile?seconds=1":  "\x1f\x8b", // what gzip begins with
		"trace?seconds=0.01": "go 1.",
	} {
		t.Run(path, func(t *testing.T) {
			if status, text := get(t, &admin.http, "/debug/pprof/"+path); status != http.StatusOK || !strings.Contains(text, want) {
				t.Errorf("the admin socket answers %d %.200q, without %q", status, text, want)
			}
			if status, text := get(t, &docker.client, "/debug/pprof/"+path); status != http.StatusNotFound {
				t.Errorf("the plugin socket answers %d %.200q", status, text)
			}
		})
	}
}

// get is what a server answers on one of the sockets.
func get(t *testing.T, client *http.Client, path string) (status int, text string) {
	t.Helper()
	response, err := client.Get("http://glustervol" + path)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	return response.StatusCode, string(body)
}
