package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/glustervol/glustervol/hack/testnode"
)

const pluginSocket = "/run/docker/plugins/glustervol.sock"

// findSocket is where dockerd finds the driver: it gives each managed plugin a
// directory.
func findSocket() string {
	if found, err := filepath.Glob("/run/docker/plugins/*/glustervol.sock"); managed && err == nil && len(found) > 0 {
		return found[0]
	}
	return pluginSocket
}

// answer is what the driver answers to any request of Docker's.
type answer struct {
	Err          string
	Mountpoint   string
	Volume       map[string]any
	Volumes      []map[string]any
	Implements   []string
	Capabilities struct{ Scope string }
}

// err is the error in an answer.
func (a answer) err() error {
	if a.Err == "" {
		return nil
	}
	return errors.New(a.Err)
}

// errNoAnswer says that the driver broke the connection instead of answering.
var errNoAnswer = errors.New("the connection broke")

// tryAsk puts a request to the plugin socket, as dockerd does.
func tryAsk(ctx context.Context, method, body string) (answer, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", findSocket())
		},
	}}
	if method != "Plugin.Activate" {
		method = "VolumeDriver." + method
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://glustervol/"+method, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	response, err := client.Do(request)
	if errors.Is(err, io.EOF) {
		return answer{}, errNoAnswer
	}
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	var a answer
	return a, json.NewDecoder(response.Body).Decode(&a)
}

// ask puts a request to the plugin socket and returns the answer, an error's
// included.
func ask(t testing.TB, method, body string) answer {
	t.Helper()
	a, err := tryAsk(t.Context(), method, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, body, err)
	}
	return a
}

// startAlone has the driver run without Docker, on a Gluster volume of the
// test's own.
func startAlone(t *testing.T) (*testnode.GlusterVolume, *driver) {
	t.Helper()
	gv := testnode.NewGlusterVolume(t, 1, "")
	d := startDriver(t, gv.Address())
	awaitReached(t)
	return gv, d
}

func TestHandshake(t *testing.T) {
	startAlone(t)
	for range 2 { // Docker repeats it
		if a := ask(t, "Plugin.Activate", ""); !slices.Equal(a.Implements, []string{"VolumeDriver"}) {
			t.Errorf("Activate: %+v", a)
		}
		if a := ask(t, "Capabilities", ""); a.Capabilities.Scope != "global" {
			t.Errorf("Capabilities: %+v", a)
		}
	}
}

// TestEmptyBody: a retry of dockerd's can arrive without the body. Any answer
// to that is taken for one to the request, and one with an error makes dockerd
// forget the volume.
func TestEmptyBody(t *testing.T) {
	startAlone(t)
	for _, method := range []string{"Create", "Get", "Path", "Mount", "Unmount", "Remove"} {
		for _, body := range []string{"", " ", `{"Name": "we`} {
			if a, err := tryAsk(t.Context(), method, body); !errors.Is(err, errNoAnswer) {
				t.Errorf("%s %q: %+v, %v", method, body, a, err)
			}
		}
	}
	if a := ask(t, "List", ""); len(a.Volumes) != 0 || a.Err != "" {
		t.Errorf("List: %+v", a)
	}
}

// TestLifeByHand is all that Docker asks for in the life of a volume.
func TestLifeByHand(t *testing.T) {
	startAlone(t)
	const name = `{"Name": "web"}`
	expect(t, ask(t, "Get", name).Err, "volume web: no such volume")
	ok := func(method, body string) answer {
		t.Helper()
		a := ask(t, method, body)
		if a.Err != "" {
			t.Errorf("%s %s: %s", method, body, a.Err)
		}
		return a
	}
	ok("Create", `{"Name": "web", "Opts": null}`)
	ok("Create", `{"Name": "web", "Opts": {}}`)
	if a := ok("Get", name); a.Volume["Name"] != "web" || a.Volume["Mountpoint"] != nil {
		t.Errorf("Get: %+v", a)
	}
	if a := ok("List", "{}"); len(a.Volumes) != 1 || a.Volumes[0]["Name"] != "web" {
		t.Errorf("List: %+v", a)
	}
	mountpoint := ok("Mount", `{"Name": "web", "ID": "1"}`).Mountpoint
	if !exists(mountpoint) || ok("Path", name).Mountpoint != mountpoint {
		t.Errorf("mounted at %q", mountpoint)
	}
	ok("Unmount", `{"Name": "web", "ID": "1"}`)
	if a := ok("Path", name); a.Mountpoint != "" {
		t.Errorf("Path: %+v", a)
	}
	ok("Remove", name)
	ok("Remove", name) // Docker repeats itself
	for _, method := range []string{"Get", "Path", "Mount"} {
		expect(t, ask(t, method, name).Err, "no such volume")
	}
}

// TestMountsAreCounted: an id that has mounted twice has to unmount twice, and
// what never was mounted can be unmounted.
func TestMountsAreCounted(t *testing.T) {
	_, d := startAlone(t)
	cli(t, "create", "web")
	step := func(method, volume, id string, users ...string) {
		t.Helper()
		if a := ask(t, method, fmt.Sprintf(`{"Name": %q, "ID": %q}`, volume, id)); a.Err != "" {
			t.Errorf("%s %s: %s", method, id, a.Err)
		}
		if got := inspect(t, "web").Users; !slices.Equal(got, users) {
			t.Errorf("behind %s %s: users %q, not %q", method, id, got, users)
		}
	}
	step("Unmount", "web", "a")
	step("Unmount", "nosuch", "a")
	step("Mount", "web", "a", "a")
	step("Mount", "web", "a", "a")
	step("Mount", "web", "b", "a", "b")
	step("Unmount", "web", "c", "a", "b")
	step("Unmount", "web", "a", "a", "b")
	d.kill()
	d.start()
	step("Unmount", "web", "a", "b")
	step("Unmount", "web", "a", "b")
	expect(t, ask(t, "Remove", `{"Name": "web"}`).Err, "in use on this node by b")
	step("Unmount", "web", "b")
	expectUnused(t, "web")
}

// TestHostileNames: Docker passes any name on.
func TestHostileNames(t *testing.T) {
	gv, _ := startAlone(t)
	cli(t, "create", "web")
	before := tree(t, gv)
	for _, name := range []string{
		"", ".", "..", "/", "a/b", "../x", "../volumes/web", "web/", "./web", "/etc", "web/../web", `a\b`, "-rf", "--help", ".hidden",
		".web.json.claim", "a b", "a\nb", "a\tb", "\x00", "web\x00", "\x1b[31m", "ü", "名前", "\u202eweb", "a\xffb",
		"*", "$(id)", "`id`", "a;b", "a|b", "web,ro", strings.Repeat("a", 201), strings.Repeat("a", 300), strings.Repeat("a", 100_000),
	} {
		body, err := json.Marshal(map[string]any{"Name": name, "ID": "1", "Opts": nil})
		if err != nil {
			t.Fatal(err)
		}
		for _, method := range []string{"Create", "Get", "Path", "Mount"} {
			if a := ask(t, method, string(body)); a.Err == "" || len(a.Err) > 2000 || strings.ContainsFunc(a.Err, unicode.IsControl) {
				t.Errorf("%s %.100q: %+.2000v", method, name, a)
			}
		}
		// That which is not there is no error to get rid of.
		for _, method := range []string{"Unmount", "Remove"} {
			if a := ask(t, method, string(body)); a.Err != "" {
				t.Errorf("%s %.100q: %+.2000v", method, name, a)
			}
		}
		if len(name) < 1000 && !strings.Contains(name, "\x00") { // what a command line can have
			for _, command := range []string{"create", "inspect", "rm", "mount"} {
				cliFails(t, []string{command, "--", name})
			}
		}
	}
	for _, id := range []string{"", "../../x", "a/b", "\x00", "\n", strings.Repeat("a", 10_000)} {
		body, err := json.Marshal(map[string]string{"Name": "web", "ID": id})
		if err != nil {
			t.Fatal(err)
		}
		for _, method := range []string{"Mount", "Unmount"} {
			if a := ask(t, method, string(body)); a.Err != "" {
				t.Errorf("%s of the id %.100q: %s", method, id, a.Err)
			}
		}
	}
	expectUnused(t, "web")
	expectTree(t, gv, before)
	if files, err := filepath.Glob("/run/glustervol/mounts/*.json"); err != nil || len(files) != 0 {
		t.Errorf("left in the run directory: %q, %v", files, err)
	}
}
