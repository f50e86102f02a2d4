package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/plugin"
	"github.com/glustervol/glustervol/volume"
)

// TestWrongCommandLines: a mistake in the command line exits with 2, tells what
// is wrong, and asks nobody.
func TestWrongCommandLines(t *testing.T) {
	t.Setenv(storeVariable, "")
	for line, words := range map[string]string{
		"nonsense":                         `there is no command "nonsense"`,
		"--nonsense":                       "unknown flag: --nonsense; see 'glustervol --help'",
		"create":                           "it is 'glustervol create NAME",
		"create a b":                       "it is 'glustervol create NAME",
		"create a -o uid=1 -o uid=2":       "option uid is given twice",
		"ls a":                             "glustervol ls",
		"inspect":                          "it is 'glustervol inspect NAME...",
		"rm":                               "it is 'glustervol rm NAME...",
		"rm a --nonsense":                  "see 'glustervol rm --help'",
		"mount":                            "it is 'glustervol mount NAME",
		"unmount a b":                      "it is 'glustervol unmount NAME",
		"info a":                           "glustervol info",
		"version a":                        "glustervol version",
		"release --all a":                  "--all takes no names",
		"trash nonsense":                   "nonsense",
		"trash ls a":                       "glustervol trash ls",
		"trash restore":                    "it is 'glustervol trash restore ENTRY|NAME",
		"serve":                            "no store is given",
		"serve nonsense":                   `store address "nonsense"`,
		"serve gfs1:/gv0 --linger=-1s":     "--linger",
		"serve gfs1:/gv0 --log-format=xml": "--log-format is text or json",
		"serve gfs1:/gv0 --log-level=loud": "loud",
		"serve gfs1:/gv0 --run-dir=run":    "--run-dir is an absolute path",
	} {
		var stdout, stderr bytes.Buffer
		args := append(strings.Fields(line), "--socket=/nonexistent")
		if code := run(t.Context(), args, &stdout, &stderr); code != exitUsage || stdout.Len() > 0 {
			t.Errorf("glustervol %s: exit code %d, prints %q", line, code, stdout.String())
		}
		expect(t, stderr.String(), "glustervol: ", words)
	}
}

// TestNoDriver: commands that need the driver exit with 1 and say how to start it.
func TestNoDriver(t *testing.T) {
	for _, line := range []string{
		"create a", "ls", "inspect a", "rm a", "mount a", "unmount a", "info", "trash ls", "trash restore a", "trash empty",
	} {
		var stdout, stderr bytes.Buffer
		args := append(strings.Fields(line), "--socket="+filepath.Join(t.TempDir(), "admin.sock"))
		if code := run(t.Context(), args, &stdout, &stderr); code != exitFailed || stdout.Len() > 0 {
			t.Errorf("glustervol %s: exit code %d, prints %q", line, code, stdout.String())
		}
		expect(t, stderr.String(), "glustervol: the glustervol driver does not run on this node", "admin.sock", "systemctl start glustervol")
	}
}

// TestHelpNeedsNoDriver: help and version ask nobody.
func TestHelpNeedsNoDriver(t *testing.T) {
	for line, words := range map[string]string{
		"":              "serve",
		"help":          "serve",
		"--help":        "serve",
		"trash":         "restore",
		"create --help": "adopt, client-options",
		"version":       "glustervol devel",
	} {
		var stdout, stderr bytes.Buffer
		args := append(strings.Fields(line), "--socket=/nonexistent")
		if code := run(t.Context(), args, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
			t.Errorf("glustervol %s: exit code %d: %s", line, code, stderr.String())
		}
		expect(t, stdout.String(), words)
	}
}

// TestCompletion: bash takes the completion, which completes names of volumes.
func TestCompletion(t *testing.T) {
	startAlone(t)
	cli(t, "create", "web")
	cli(t, "create", "logs")
	check := exec.CommandContext(t.Context(), "bash", "-n")
	check.Stdin = strings.NewReader(cli(t, "completion", "bash"))
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("bash: %v: %s", err, out)
	}
	for _, command := range []string{"inspect", "rm", "mount", "unmount"} {
		if got := cli(t, "__complete", command, ""); !strings.HasPrefix(got, "logs\nweb\n:4") {
			t.Errorf("%s: %q", command, got)
		}
	}
}

// TestCommandsInJSON: what --json prints is what the plugin package's types say.
func TestCommandsInJSON(t *testing.T) {
	gv, d := startAlone(t)
	for _, command := range [][]string{{"ls"}, {"trash", "ls"}} {
		if got := cli(t, append(command, "--json")...); got != "[]" {
			t.Errorf("glustervol %s: %q", command, got)
		}
	}
	created := cliJSON[plugin.VolumeInfo](t, "create", "web", "-o", "uid=999", "-o", "mode=750", "-o", "client-options=noatime")
	if created.Name != "web" || created.Store != gv.Address() || created.Path != "volumes/web" || *created.Options.UID != 999 ||
		created.Options.GID != nil || created.Options.Mode != "0750" || created.Options.OnRemove != volume.Trash ||
		created.Options.ClientOptions != "noatime" || created.Mountpoint != "" || created.Users == nil {
		t.Errorf("create: %+v", created)
	}
	mounted := cliJSON[struct{ Mountpoint string }](t, "mount", "web")
	got := inspect(t, "web")
	if got.ID != created.ID || got.Mountpoint != mounted.Mountpoint || got.Client.Health != "alive" || !slices.Equal(got.Users, []string{volume.ManualUser}) {
		t.Errorf("inspect: %+v", got)
	}
	if list := cliJSON[[]plugin.VolumeInfo](t, "ls"); len(list) != 1 || list[0].ID != created.ID {
		t.Errorf("ls: %+v", list)
	}
	info := cliJSON[plugin.Info](t, "info")
	if info.Version != version || info.PID != d.daemon.PID() || info.Socket != pluginSocket || len(info.Clients) != 1 || !strings.HasPrefix(info.Node.ID, "testnode-") {
		t.Errorf("info: %+v", info)
	}
	if s := info.Stores; len(s) != 1 || s[0].Address != gv.Address() || !s[0].Default || !s[0].Reached || s[0].Trouble != "" || s[0].Volumes != 1 {
		t.Errorf("info: %+v", s)
	}
	cli(t, "unmount", "web")
	cli(t, "rm", "web")
	if list := cliJSON[[]volume.Trashed](t, "trash", "ls"); len(list) != 1 || list[0].Entry != "web."+created.ID || list[0].Name != "web" || list[0].Purging {
		t.Errorf("trash ls: %+v", list)
	}
}

// TestTables: people get tables.
func TestTables(t *testing.T) {
	gv, _ := startAlone(t)
	store := regexp.QuoteMeta(gv.Address())
	matches := func(got string, patterns ...string) {
		t.Helper()
		for _, pattern := range patterns {
			if !regexp.MustCompile(`(?m)^` + pattern + `$`).MatchString(got) {
				t.Errorf("no line %q in:\n%s", pattern, got)
			}
		}
	}
	if got := cli(t, "create", "web", "-o", "gid=50"); got != "web" {
		t.Errorf("create prints %q", got)
	}
	matches(cli(t, "ls"), `NAME +STORE +PATH +CREATED +USERS HERE`, `web +`+store+` +volumes/web +.* ago +0`)
	matches(cli(t, "inspect", "web"),
		`Name: +web`, `ID: +[0-9a-f]{16}`, `Store: +`+store, `Path: +volumes/web`, `Created: +20\d\d-.*Z`, `Owner: +uid as it is, gid 50, mode as it is`,
		`On remove: +trash`, `Client: +.*, not running, pid 0`, `Control plane: +gfapi: libgfapi is on this node`, `Mountpoint: +not mounted on this node`, `Users here: +none`)
	matches(cli(t, "info"), `Version: +devel`, `Plugin socket: +`+pluginSocket, `Default store: +`+store+`, 1 volumes, reached`, ` +control plane gfapi: libgfapi is on this node`)
	if got := cli(t, "rm", "web"); got != "web" {
		t.Errorf("rm prints %q", got)
	}
	matches(cli(t, "trash", "ls"), `ENTRY +VOLUME +STORE +REMOVED +STATE`, `web\.[0-9a-f]{16} +web +`+store+` +.* ago +to be restored`)
}

// TestMountByHand: a person mounts and unmounts as often as they like, and is
// counted once.
func TestMountByHand(t *testing.T) {
	gv, _ := startAlone(t)
	cli(t, "create", "web")
	path := cli(t, "mount", "web")
	if again := cli(t, "mount", "web"); again != path {
		t.Errorf("mounted at %s, then at %s", path, again)
	}
	if err := os.WriteFile(filepath.Join(path, "f"), []byte("by hand"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(onBrick(gv, "volumes/web/f")); string(got) != "by hand" {
		t.Errorf("on the brick: %q, %v", got, err)
	}
	cliFails(t, []string{"rm", "web"}, "in use on this node by manual")
	cli(t, "unmount", "web")
	cli(t, "unmount", "web")
	expectUnused(t, "web")
	cli(t, "rm", "web")
}

// TestUnknownVolume: each command says that there is none.
func TestUnknownVolume(t *testing.T) {
	startAlone(t)
	for _, command := range []string{"inspect", "rm", "mount", "unmount"} {
		cliFails(t, []string{command, "nosuch"}, "volume nosuch: no such volume")
	}
	for _, command := range []string{"restore", "empty"} {
		cliFails(t, []string{"trash", command, "nosuch"}, `"nosuch": no such entry in the trash; 'glustervol trash ls' lists them`)
	}
	cli(t, "create", "web")
	out, errs, code := tryCLI(t, "rm", "nosuch", "web")
	if code != exitFailed || out != "web" {
		t.Errorf("rm of two: exit code %d, prints %q", code, out)
	}
	expect(t, errs, "nosuch")
}

// TestTrashCommands: volumes of one name pile up in the trash.
func TestTrashCommands(t *testing.T) {
	gv, _ := startAlone(t)
	var entries []string
	for _, content := range []string{"first", "second", "third"} {
		v := cliJSON[plugin.VolumeInfo](t, "create", "web")
		if err := os.WriteFile(filepath.Join(cli(t, "mount", "web"), "f"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		cli(t, "unmount", "web")
		cli(t, "rm", "web")
		entries = append(entries, "web."+v.ID)
	}
	cliFails(t, []string{"trash", "restore", "web"}, "3 removed volumes had the name web", entries[2])
	if got := cli(t, "trash", "restore", entries[0]); got != "web" {
		t.Errorf("restore prints %q", got)
	}
	cliFails(t, []string{"trash", "restore", entries[1]}, "volume web exists", "--as NAME")
	cliFails(t, []string{"trash", "restore", entries[1], "--as", "../web"}, "volume name")
	if got := cli(t, "trash", "restore", entries[1], "--as", "older"); got != "older" {
		t.Errorf("restore --as prints %q", got)
	}
	for name, content := range map[string]string{"web": "first", "older": "second"} {
		if got, err := os.ReadFile(onBrick(gv, "volumes/"+name+"/f")); string(got) != content {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	cliFails(t, []string{"trash", "restore", entries[0]}, "no such entry")
	cliFails(t, []string{"trash", "empty", entries[2], "nosuch"}, "nosuch") // and nothing is purged
	if _, errs, code := tryCLI(t, "trash", "empty", entries[2]); code != 0 || errs != "purging "+entries[2]+" (1 of 1)" {
		t.Errorf("empty: exit code %d, says %q", code, errs)
	}
	if got := cliJSON[[]volume.Trashed](t, "trash", "ls"); len(got) != 0 {
		t.Errorf("in the trash: %+v", got)
	}
}

// TestSecondDriver: a driver that finds another on its directory or its sockets
// leaves that alone.
func TestSecondDriver(t *testing.T) {
	gv, d := startAlone(t)
	other := t.TempDir()
	elsewhere := []string{"--run-dir=" + other, "--socket=" + filepath.Join(other, "admin.sock"), "--plugin-socket=" + filepath.Join(other, "plugin.sock")}
	for name, test := range map[string]struct {
		args  []string
		words string
	}{
		"all the same":       {nil, "another driver uses /run/glustervol; stop it first"},
		"same run directory": {elsewhere[1:], "another driver uses /run/glustervol; stop it first"},
		"same plugin socket": {elsewhere[:2], "another driver serves " + pluginSocket},
		"same admin socket":  {[]string{elsewhere[0], elsewhere[2]}, "another driver serves " + defaultAdminSocket},
	} {
		_, errs, code := tryCLI(t, append([]string{"serve", gv.Address(), "--state-dir=" + other}, test.args...)...)
		if code != exitFailed {
			t.Errorf("%s: exit code %d", name, code)
		}
		expect(t, errs, test.words)
		if got := cliJSON[plugin.Info](t, "info"); got.PID != d.daemon.PID() {
			t.Errorf("%s: the driver is %+v", name, got)
		}
		ask(t, "Plugin.Activate", "")
	}
}

// TestLockHeldForAMoment: a driver that was killed while it started a client leaves its
// lock to the child that is about to be that client.
func TestLockHeldForAMoment(t *testing.T) {
	_, d := startAlone(t)
	d.stop()
	child := exec.Command("flock", "/run/glustervol/lock", "sleep", "0.7")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	testnode.Eventually(t, "the lock is held", func() bool {
		return exec.Command("flock", "--nonblock", "/run/glustervol/lock", "true").Run() != nil
	})
	d.start()
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
}

// TestStaleSockets: what a killed driver has left is no obstacle.
func TestStaleSockets(t *testing.T) {
	_, d := startAlone(t)
	d.kill()
	if !exists(pluginSocket) {
		t.Error("the killed driver has removed its socket")
	}
	d.start()
	ask(t, "Plugin.Activate", "")
	d.stop()
	for _, socket := range []string{pluginSocket, defaultAdminSocket} {
		if exists(socket) {
			t.Errorf("%s is left: dockerd would wait for its driver", socket)
		}
	}
}

// TestNameInTwoStores: nobody can tell which of the volumes is meant.
func TestNameInTwoStores(t *testing.T) {
	one, two := testnode.NewGlusterVolume(t, 1, ""), testnode.NewGlusterVolume(t, 1, "")
	d := startDriver(t, one.Address())
	cli(t, "create", "web")
	d.stop()
	d.args[len(d.args)-1] = two.Address()
	d.start()
	cli(t, "create", "web")
	d.stop()
	d.args = append(d.args, one.Address())
	d.start()
	testnode.Eventually(t, "both stores are reached", func() bool {
		return !slices.ContainsFunc(cliJSON[plugin.Info](t, "info").Stores, func(s volume.StoreInfo) bool { return !s.Reached })
	})
	const both = "it exists in two stores"
	cliFails(t, []string{"mount", "web"}, both, one.Address(), two.Address())
	cliFails(t, []string{"rm", "web"}, both, "glustervol rm --store ADDRESS")
	cli(t, "rm", "--store", two.Address(), "web")
	if got := inspect(t, "web").Store; got != one.Address() {
		t.Errorf("left in %s", got)
	}
	cli(t, "mount", "web")
	cli(t, "unmount", "web")
}

// TestStoresThatOverlap: two stores that share files would each take the other's.
func TestStoresThatOverlap(t *testing.T) {
	testnode.Require(t)
	_, errs, code := tryCLI(t, "serve", "gfs1:/gv0", "gfs2:/gv0/sub")
	if code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	expect(t, errs, "stores gfs1:/gv0 and gfs2:/gv0/sub share files")
}
