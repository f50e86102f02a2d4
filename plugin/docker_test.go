package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	api "github.com/docker/go-plugins-helpers/volume"

	"github.com/glustervol/glustervol/volume"
)

// dockerServer is a Docker that serves a socket, as dockerd sees it.
type dockerServer struct {
	*Docker
	socket string
	logs   *logs
	client http.Client
}

func serveDocker(t testing.TB, m Manager) *dockerServer {
	t.Helper()
	l, path := listen(t)
	s := &dockerServer{socket: path, logs: new(logs)}
	s.Docker = NewDocker(m, Legacy("/run/docker/plugins/glustervol.sock"), s.logs.logger())
	s.client.Transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = l.Close()
		s.Wait(t.Context())
		if err := <-served; !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the server ended with %v", err)
		}
	})
	return s
}

// post sends a request as dockerd does. The error is that of a connection that
// broke.
func (s *dockerServer) post(t testing.TB, path, body string) (status int, answer string, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://plugin"+path, strings.NewReader(body))
	must(t, err)
	r.Header.Set("Accept", "application/vnd.docker.plugins.v1.2+json")
	response, err := s.client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	must(t, err)
	if got := response.Header.Get("Content-Type"); response.StatusCode != http.StatusNotFound && got != "application/vnd.docker.plugins.v1.1+json" {
		t.Errorf("content type %q", got)
	}
	return response.StatusCode, strings.TrimSuffix(string(data), "\n"), nil
}

var errUnreachable = fmt.Errorf("volume web: %w: gfs1:/gv0: no route", volume.ErrUnreachable)

// TestDocker has every method of the protocol, byte for byte.
func TestDocker(t *testing.T) {
	found := func(context.Context, string) (volume.Volume, error) { return webVolume(), nil }
	failing := func(err error) func(context.Context, string) (volume.Volume, error) {
		return func(context.Context, string) (volume.Volume, error) { return volume.Volume{}, err }
	}
	removing := func(err error) func(context.Context, string, string, bool) error {
		return func(_ context.Context, name, store string, keepData bool) error {
			if name != "web" || store != "" || keepData {
				t.Errorf("removed %q, %q, %v", name, store, keepData)
			}
			return err
		}
	}
	creating := func(want map[string]string, err error) func(context.Context, string, map[string]string) error {
		return func(_ context.Context, name string, options map[string]string) error {
			if name != "web" || !maps.Equal(options, want) || (options == nil) != (want == nil) {
				t.Errorf("created %q, %#v; want %#v", name, options, want)
			}
			return err
		}
	}
	mounting := func(path string, err error) func(context.Context, string, string) (string, error) {
		return func(_ context.Context, name, id string) (string, error) {
			if name != "web" || id != "a" {
				t.Errorf("mounted %q for %q", name, id)
			}
			return path, err
		}
	}
	unmounting := func(err error) func(context.Context, string, string) error {
		return func(ctx context.Context, name, id string) error {
			_, err := mounting("", err)(ctx, name, id)
			return err
		}
	}
	limited := webVolume()
	limited.Limit, limited.Trouble, limited.Mountpoint = 1<<30, "no route", ""
	const broken = -1
	tests := []struct {
		doc     string
		manager fakeManager
		path    string
		body    string
		status  int // broken: the connection is, without an answer
		answer  string
	}{
		{doc: "activate", path: "/Plugin.Activate", status: 200, answer: `{"Implements":["VolumeDriver"]}`},
		{doc: "capabilities", path: "/VolumeDriver.Capabilities", body: "{}\n", status: 200, answer: `{"Capabilities":{"Scope":"global"}}`},
		{doc: "capabilities without a body", path: "/VolumeDriver.Capabilities", status: 200, answer: `{"Capabilities":{"Scope":"global"}}`},
		{doc: "a method that there is not", path: "/VolumeDriver.Frob", body: "{}\n", status: 404, answer: "404 page not found"},

		{
			doc: "create", path: "/VolumeDriver.Create", body: `{"Name":"web","Opts":{"uid":"999"}}`,
			manager: fakeManager{create: creating(map[string]string{"uid": "999"}, nil)}, status: 200, answer: "{}",
		},
		{
			doc: "create by name alone", path: "/VolumeDriver.Create", body: `{"Name":"web","Opts":null}`,
			manager: fakeManager{create: creating(nil, nil)}, status: 200, answer: "{}",
		},
		{
			doc: "create without options at all", path: "/VolumeDriver.Create", body: `{"Name":"web"}`,
			manager: fakeManager{create: creating(nil, nil)}, status: 200, answer: "{}",
		},
		{
			doc: "create with an empty map", path: "/VolumeDriver.Create", body: `{"Name":"web","Opts":{}}`,
			manager: fakeManager{create: creating(map[string]string{}, nil)}, status: 200, answer: "{}",
		},
		{
			doc: "create that fails", path: "/VolumeDriver.Create", body: `{"Name":"web"}`,
			manager: fakeManager{create: creating(nil, errUnreachable)}, status: 500,
			answer: `{"Err":"volume web: the store cannot be reached: gfs1:/gv0: no route"}`,
		},
		{
			doc: "create with a number for an option", path: "/VolumeDriver.Create", body: `{"Name":"web","Opts":{"uid":999}}`, status: 500,
			answer: `{"Err":"the request is not what Docker's volume plugin protocol has: json: cannot unmarshal number into Go struct field CreateRequest.Opts of type string"}`,
		},

		{
			doc: "get", path: "/VolumeDriver.Get", body: `{"Name":"web"}`, manager: fakeManager{get: found}, status: 200,
			answer: `{"Volume":{"Name":"web","Mountpoint":"/clients/gv0-1/mnt/volumes/web","CreatedAt":"2026-01-02T03:04:05Z",` +
				`"Status":{"client":{"health":"alive","pid":7},"on-remove":"trash","path":"volumes/web","store":"gfs1:/gv0","users":["a"]}}}`,
		},
		{
			doc: "get with a quota and a store in trouble", path: "/VolumeDriver.Get", body: `{"Name":"web"}`,
			manager: fakeManager{get: func(context.Context, string) (volume.Volume, error) { return limited, nil }}, status: 200,
			answer: `{"Volume":{"Name":"web","CreatedAt":"2026-01-02T03:04:05Z",` +
				`"Status":{"client":{"health":"alive","pid":7},"on-remove":"trash","path":"volumes/web","size-limit":1073741824,"store":"gfs1:/gv0","trouble":"no route","users":["a"]}}}`,
		},
		{
			doc: "get of what is not there", path: "/VolumeDriver.Get", body: `{"Name":"web"}`,
			manager: fakeManager{get: failing(fmt.Errorf("volume web: %w", volume.ErrNotFound))}, status: 500,
			answer: `{"Err":"volume web: no such volume"}`,
		},
		{doc: "get while the store is down", path: "/VolumeDriver.Get", body: `{"Name":"web"}`, manager: fakeManager{get: failing(errUnreachable)}, status: broken},
		{doc: "get of a damaged volume", path: "/VolumeDriver.Get", body: `{"Name":"web"}`, manager: fakeManager{get: failing(volume.ErrDamaged)}, status: broken},
		{doc: "get that runs out of time", path: "/VolumeDriver.Get", body: `{"Name":"web"}`, manager: fakeManager{get: failing(context.DeadlineExceeded)}, status: broken},
		{doc: "get with an empty body", path: "/VolumeDriver.Get", body: "", status: broken},
		{doc: "get with white space for a body", path: "/VolumeDriver.Get", body: " \n", status: broken},
		{doc: "get with half a body", path: "/VolumeDriver.Get", body: `{"Name":"w`, status: broken},
		{doc: "get with a body that never ends", path: "/VolumeDriver.Get", body: `{"Name":"` + strings.Repeat("x", maxRequest), status: broken},
		{
			doc: "get with something else for a body", path: "/VolumeDriver.Get", body: "Name=web", status: 500,
			answer: `{"Err":"the request is not what Docker's volume plugin protocol has: invalid character 'N' looking for beginning of value"}`,
		},

		{
			doc: "list", path: "/VolumeDriver.List", body: "{}\n", status: 200,
			manager: fakeManager{list: func() []volume.Volume { return []volume.Volume{limited, webVolume()} }},
			answer:  `{"Volumes":[{"Name":"web","CreatedAt":"2026-01-02T03:04:05Z"},{"Name":"web","Mountpoint":"/clients/gv0-1/mnt/volumes/web","CreatedAt":"2026-01-02T03:04:05Z"}]}`,
		},
		{
			doc: "list without a body, of nothing", path: "/VolumeDriver.List", status: 200,
			manager: fakeManager{list: func() []volume.Volume { return nil }}, answer: `{"Volumes":[]}`,
		},

		{
			doc: "mount", path: "/VolumeDriver.Mount", body: `{"Name":"web","ID":"a"}`,
			manager: fakeManager{mount: mounting("/clients/gv0-1/mnt/volumes/web", nil)}, status: 200,
			answer: `{"Mountpoint":"/clients/gv0-1/mnt/volumes/web"}`,
		},
		{
			doc: "mount that fails", path: "/VolumeDriver.Mount", body: `{"Name":"web","ID":"a"}`,
			manager: fakeManager{mount: mounting("", errUnreachable)}, status: 500,
			answer: `{"Err":"volume web: the store cannot be reached: gfs1:/gv0: no route"}`,
		},
		{doc: "mount with an empty body", path: "/VolumeDriver.Mount", status: broken},

		{
			doc: "path", path: "/VolumeDriver.Path", body: `{"Name":"web"}`, manager: fakeManager{get: found}, status: 200,
			answer: `{"Mountpoint":"/clients/gv0-1/mnt/volumes/web"}`,
		},
		{doc: "path while the store is down", path: "/VolumeDriver.Path", body: `{"Name":"web"}`, manager: fakeManager{get: failing(errUnreachable)}, status: broken},
		{
			doc: "path of what is not there", path: "/VolumeDriver.Path", body: `{"Name":"web"}`, manager: fakeManager{get: failing(volume.ErrNotFound)},
			status: 500, answer: `{"Err":"no such volume"}`,
		},

		{doc: "unmount", path: "/VolumeDriver.Unmount", body: `{"Name":"web","ID":"a"}`, manager: fakeManager{unmount: unmounting(nil)}, status: 200, answer: "{}"},
		{
			doc: "unmount that fails", path: "/VolumeDriver.Unmount", body: `{"Name":"web","ID":"a"}`, manager: fakeManager{unmount: unmounting(errors.New("busy"))},
			status: 500, answer: `{"Err":"busy"}`,
		},
		{doc: "unmount with half a body", path: "/VolumeDriver.Unmount", body: `{"Name":"web",`, status: broken},

		{doc: "remove", path: "/VolumeDriver.Remove", body: `{"Name":"web"}`, manager: fakeManager{remove: removing(nil)}, status: 200, answer: "{}"},
		{
			doc: "remove of what is gone", path: "/VolumeDriver.Remove", body: `{"Name":"web"}`,
			manager: fakeManager{remove: removing(fmt.Errorf("remove volume web: %w", volume.ErrNotFound))}, status: 200, answer: "{}",
		},
		{
			doc: "remove of what is in use", path: "/VolumeDriver.Remove", body: `{"Name":"web"}`,
			manager: fakeManager{remove: removing(&volume.InUseError{Volume: "web", Users: []string{"a", "b"}})}, status: 500,
			answer: `{"Err":"volume web is in use on this node by a, b; stop and remove what uses it first"}`,
		},
		{
			doc: "remove while the store is down", path: "/VolumeDriver.Remove", body: `{"Name":"web"}`,
			manager: fakeManager{remove: removing(errUnreachable)}, status: 500, answer: `{"Err":"volume web: the store cannot be reached: gfs1:/gv0: no route"}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			s := serveDocker(t, &tt.manager)
			for range 2 { // the second comes over the same connection, if that lives
				status, answer, err := s.post(t, tt.path, tt.body)
				switch {
				case tt.status == broken && (!errors.Is(err, io.EOF) || status != 0):
					t.Errorf("answered %d %s, %v; want a broken connection", status, answer, err)
				case tt.status != broken && (err != nil || status != tt.status || answer != tt.answer):
					t.Errorf("got  %d %s, %v\nwant %d %s", status, answer, err, tt.status, tt.answer)
				}
			}
			// That a name is not there is no trouble: Docker asks for every new one.
			trouble := (tt.status == broken || tt.status == 500) && !strings.Contains(tt.answer, "no such volume")
			if warned := len(s.logs.with("level=WARN")) > 0; warned != trouble {
				t.Errorf("logged %q", s.logs.lines)
			}
		})
	}
}

// TestDockerConnectionLost has a request end in its middle, by the connection's
// end: nothing is asked of the manager, and nothing is answered.
func TestDockerConnectionLost(t *testing.T) {
	for doc, request := range map[string]string{
		"no body at all":          "Content-Length: 14\r\n\r\n",
		"half of the body":        "Content-Length: 14\r\n\r\n{\"Name\":",
		"all but the last byte":   "Content-Length: 14\r\n\r\n{\"Name\":\"web\"",
		"a chunk without an end":  "Transfer-Encoding: chunked\r\n\r\ne\r\n{\"Name\":\"web\"}\r\n",
		"half of a chunk":         "Transfer-Encoding: chunked\r\n\r\ne\r\n{\"Name\":",
		"an empty body, by right": "Content-Length: 0\r\n\r\n",
	} {
		t.Run(doc, func(t *testing.T) {
			s := serveDocker(t, &fakeManager{})
			conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: s.socket, Net: "unix"})
			must(t, err)
			defer conn.Close()
			_, err = io.WriteString(conn, "POST /VolumeDriver.Get HTTP/1.1\r\nHost: plugin\r\n"+request)
			must(t, err)
			must(t, conn.CloseWrite())
			must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
			if answer, err := io.ReadAll(conn); err != nil || len(answer) > 0 {
				t.Errorf("answered %q, %v", answer, err)
			}
		})
	}
}

// TestDockerDeadlines: each answer comes before dockerd stops waiting for it.
func TestDockerDeadlines(t *testing.T) {
	const long, short = 2 * time.Minute, time.Minute // dockerd's
	var end time.Time
	note := func(ctx context.Context) error { end, _ = ctx.Deadline(); return volume.ErrNotFound }
	s := serveDocker(t, &fakeManager{
		create:  func(ctx context.Context, _ string, _ map[string]string) error { return note(ctx) },
		mount:   func(ctx context.Context, _, _ string) (string, error) { return "", note(ctx) },
		unmount: func(ctx context.Context, _, _ string) error { return note(ctx) },
		remove:  func(ctx context.Context, _, _ string, _ bool) error { return note(ctx) },
		get:     func(ctx context.Context, _ string) (volume.Volume, error) { return volume.Volume{}, note(ctx) },
	})
	for method, limit := range map[string]time.Duration{"Create": long, "Mount": long, "Unmount": short, "Remove": short, "Get": short, "Path": short} {
		start := time.Now()
		_, _, err := s.post(t, "/VolumeDriver."+method, `{"Name":"web","ID":"a"}`)
		must(t, err)
		if given := end.Sub(start); given > limit-5*time.Second || given < limit/2 {
			t.Errorf("%s is given %s, where dockerd waits %s", method, given, limit)
		}
	}
}

// TestDockerMountLost has dockerd leave before the answer to Mount, which it
// will never unmount then.
func TestDockerMountLost(t *testing.T) {
	for doc, padding := range map[string]int{"a short request": 0, "a long request": 10_000} {
		t.Run(doc, func(t *testing.T) {
			started, unmounted := make(chan struct{}), make(chan string, 1)
			s := serveDocker(t, &fakeManager{
				mount: func(ctx context.Context, _, _ string) (string, error) {
					close(started)
					select {
					case <-ctx.Done():
					case <-time.After(10 * time.Second):
						t.Error("the driver does not notice that dockerd has left")
					}
					return "/mnt", nil
				},
				unmount: func(ctx context.Context, name, id string) error {
					if end, bounded := ctx.Deadline(); ctx.Err() != nil || !bounded || time.Until(end) > time.Minute {
						t.Errorf("the unmount is given until %s, %v", end, ctx.Err())
					}
					unmounted <- name + "/" + id
					return nil
				},
			})
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-started; cancel() }()
			body := `{"Name":"web","ID":"a"}` + strings.Repeat(" ", padding) + "\n"
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/VolumeDriver.Mount", strings.NewReader(body))
			must(t, err)
			if response, err := s.client.Do(r); err == nil {
				response.Body.Close()
				t.Error("it was answered")
			}
			s.Wait(t.Context()) // until the request has ended
			select {
			case got := <-unmounted:
				if got != "web/a" {
					t.Errorf("unmounted %s", got)
				}
			default:
				t.Error("nothing was unmounted")
			}
		})
	}
}

// TestDockerMountTooLate is a Mount that has succeeded after its deadline.
func TestDockerMountTooLate(t *testing.T) {
	unmounted := false
	d := NewDocker(&fakeManager{
		mount:   func(context.Context, string, string) (string, error) { return "/mnt", nil },
		unmount: func(ctx context.Context, _, _ string) error { unmounted = true; return ctx.Err() },
	}, Legacy("glustervol.sock"), new(logs).logger())
	ctx, cancel := context.WithTimeoutCause(t.Context(), 0, errDeadline)
	defer cancel()
	answer, err := d.mount(ctx, api.MountRequest{Name: "web", ID: "a"})
	if !errors.Is(err, errDeadline) || answer.Mountpoint != "" || !unmounted {
		t.Errorf("answered %+v, %v; unmounted %v", answer, err, unmounted)
	}
}

// TestDockerWait has the driver stop: the request under way is answered, and no
// more are taken, also not on connections that dockerd keeps open.
func TestDockerWait(t *testing.T) {
	started, goOn := make(chan struct{}), make(chan struct{})
	var listed atomic.Int64
	s := serveDocker(t, &fakeManager{
		list: func() []volume.Volume { listed.Add(1); return nil },
		unmount: func(context.Context, string, string) error {
			close(started)
			<-goOn
			return nil
		},
	})
	if _, _, err := s.post(t, "/VolumeDriver.List", ""); err != nil { // leaves an idle connection
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		status, _, err := s.post(t, "/VolumeDriver.Unmount", `{"Name":"web","ID":"a"}`)
		if status != http.StatusOK {
			err = errors.Join(err, fmt.Errorf("status %d", status))
		}
		answered <- err
	}()
	<-started
	gaveUp, cancel := context.WithCancel(t.Context())
	cancel()
	waited := make(chan struct{})
	go func() { s.Wait(t.Context()); close(waited) }()
	for { // until it takes no more
		if _, _, err := s.post(t, "/VolumeDriver.List", ""); err != nil {
			break
		}
	}
	select {
	case <-waited:
		t.Error("it did not wait for the request under way")
	default:
	}
	close(goOn)
	<-waited
	must(t, <-answered)
	before := listed.Load()
	if _, _, err := s.post(t, "/VolumeDriver.List", ""); err == nil || listed.Load() != before {
		t.Error("a request was taken")
	}
	s.Wait(gaveUp) // nothing is left to wait for
}

// TestDockerWaitGivesUp on a request that does not end.
func TestDockerWaitGivesUp(t *testing.T) {
	started := make(chan struct{})
	s := serveDocker(t, &fakeManager{unmount: func(ctx context.Context, _, _ string) error {
		close(started)
		<-ctx.Done()
		return ctx.Err()
	}})
	answered := make(chan error, 1)
	go func() {
		_, _, err := s.post(t, "/VolumeDriver.Unmount", `{"Name":"web","ID":"a"}`)
		answered <- err
	}()
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Wait(ctx)
	if err := <-answered; err == nil {
		t.Error("it was answered")
	}
	if lines := s.logs.with("level=WARN", "left without an answer"); len(lines) != 1 {
		t.Errorf("logged %q", s.logs.lines)
	}
}

// TestDockerPanic has a mistake in the driver cost one request, and be told.
func TestDockerPanic(t *testing.T) {
	s := serveDocker(t, &fakeManager{list: func() []volume.Volume { panic("a mistake") }})
	if status, answer, err := s.post(t, "/VolumeDriver.List", ""); err == nil {
		t.Errorf("answered %d %s", status, answer)
	}
	if status, _, err := s.post(t, "/VolumeDriver.Capabilities", ""); status != http.StatusOK {
		t.Errorf("the next request: %d, %v", status, err)
	}
	if lines := s.logs.with("level=ERROR", "a mistake"); len(lines) != 1 {
		t.Errorf("logged %q", s.logs.lines)
	}
}

// FuzzDecode has requests arrive whole and in part. What is not whole must not
// be taken for a request, nor be answered.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"Name":"web","Opts":{"uid":"999"}}`), uint(9))
	f.Add([]byte(`{"Name":"web","Opts":null}`+"\n"), uint(3))
	f.Add([]byte(`{"Name":"wüb\u0000\"}"}`), uint(15))
	f.Add([]byte(""), uint(0))
	f.Add([]byte(" \n"), uint(1))
	f.Add([]byte(`{"Name":1}`), uint(8))
	f.Add([]byte(`null`), uint(2))
	f.Add([]byte(`[{}]`), uint(3))
	f.Add([]byte(`{"name":"a","NAME":"b"}{"Name":"c"}`), uint(23))
	f.Fuzz(func(t *testing.T, body []byte, cut uint) {
		request, err := decode[api.CreateRequest](bytes.NewReader(body))
		if empty := len(bytes.Trim(body, " \t\r\n")) == 0; empty && !errors.Is(err, errUncertain) {
			t.Errorf("%q is taken for %+v, %v", body, request, err)
		}
		if err != nil {
			return
		}
		// Docker's own form of it, and its beginnings.
		whole, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decode[api.CreateRequest](bytes.NewReader(whole))
		if err != nil || again.Name != request.Name || !maps.Equal(again.Options, request.Options) {
			t.Errorf("%+v is written %s, and that is %+v, %v", request, whole, again, err)
		}
		part := whole[:cut%uint(len(whole))]
		if request, err := decode[api.CreateRequest](bytes.NewReader(part)); !errors.Is(err, errUncertain) {
			t.Errorf("%s is taken for %+v, %v", part, request, err)
		}
	})
}
