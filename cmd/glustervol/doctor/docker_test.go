package doctor

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// serveSocket serves HTTP on a socket of the test's own.
func serveSocket(t *testing.T, handler http.HandlerFunc) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s.sock")
	l, err := net.Listen("unix", socket)
	must(t, err)
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return socket
}

func TestPluginSocket(t *testing.T) {
	n := alone(t)
	n.PluginSocket = filepath.Join(t.TempDir(), "glustervol.sock")
	expect(t, n.checkPluginSocket(t.Context()), Failure, "there is no "+n.PluginSocket, "start the driver")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: n.PluginSocket})
	must(t, err)
	expect(t, n.checkPluginSocket(t.Context()), OK)
	l.SetUnlinkOnClose(false) // as a driver that was killed
	must(t, l.Close())
	expect(t, n.checkPluginSocket(t.Context()), Failure, "nobody serves it", "15 s")
}

// TestDocker has a dockerd that says what no real one can be brought to say at will; the
// real one is in cmd/glustervol.
func TestDocker(t *testing.T) {
	pluginSocket := serveSocket(t, func(http.ResponseWriter, *http.Request) {})
	for _, tt := range []struct {
		doc, volumes, info string
		level              Level
		words              []string
	}{
		{"seen", `{}`, `{"Plugins": {"Volume": ["local", "s"]}}`, OK, []string{"dockerd 20.10.24 sees the driver s"}},
		{"not seen", `{}`, `{"Plugins": {"Volume": ["local"]}}`, Failure, []string{"does not see a driver s", "docker plugin ls"}},
		{"with trouble", `{"Warnings": ["list s: it hangs"]}`, `{"Plugins": {"Volume": ["s"]}}`, Failure, []string{"list s: it hangs"}},
		{"out of order", `nonsense`, ``, Failure, []string{"dockerd"}},
	} {
		t.Run(tt.doc, func(t *testing.T) {
			n := alone(t)
			n.PluginSocket = pluginSocket
			n.DockerSocket = serveSocket(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Api-Version", "1.41")
				w.Header().Set("Content-Type", "application/json")
				switch {
				case strings.HasSuffix(r.URL.Path, "/version"):
					fmt.Fprint(w, `{"Version": "20.10.24", "ApiVersion": "1.41"}`)
				case strings.HasSuffix(r.URL.Path, "/volumes"):
					fmt.Fprint(w, tt.volumes)
				case strings.HasSuffix(r.URL.Path, "/info"):
					fmt.Fprint(w, tt.info)
				}
			})
			expect(t, n.checkDocker(t.Context()), tt.level, tt.words...)
		})
	}
	n := alone(t)
	expect(t, n.checkDocker(t.Context()), Skipped, "--docker-socket is empty")
	n.DockerSocket = filepath.Join(t.TempDir(), "docker.sock")
	expect(t, n.checkDocker(t.Context()), Failure, "dockerd does not answer", "systemctl start docker")
	n.DockerSocket, n.PluginSocket = pluginSocket, "/nonexistent"
	expect(t, n.checkDocker(t.Context()), Skipped, "nobody serves")
}
