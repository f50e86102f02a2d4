package main

import (
	"os"
	"strings"
	"testing"

	"github.com/glustervol/glustervol/hack/testnode"
)

// create creates a volume with options through Docker.
func create(t testing.TB, volume string, options ...string) {
	t.Helper()
	docker(t, createArgs(volume, options...)...)
}

func createArgs(volume string, options ...string) []string {
	args := []string{"volume", "create", "--driver=glustervol"}
	for _, o := range options {
		args = append(args, "--opt="+o)
	}
	return append(args, volume)
}

func TestOwnerAndMode(t *testing.T) {
	startNode(t)
	for name, test := range map[string]struct {
		options []string
		want    string // uid:gid:mode
	}{
		"default": {nil, "0:0:755"},
		"owner":   {[]string{"uid=999", "gid=998"}, "999:998:755"},
		"mode":    {[]string{"mode=0711"}, "0:0:711"},
		"sticky":  {[]string{"mode=1777"}, "0:0:1777"},
		"setgid":  {[]string{"gid=50", "mode=2770"}, "0:50:2770"},
	} {
		create(t, name, test.options...)
		if got := runScript(t, "stat -c %u:%g:%a /data", "-v="+name+":/data"); got != test.want {
			t.Errorf("%s: %q is %s, not %s", name, test.options, got, test.want)
		}
	}
	create(t, "app", "uid=999", "mode=0700")
	runScript(t, "touch /data/f", "-v=app:/data", "--user=999")
	dockerFails(t, runArgs("touch /data/g", "-v=app:/data", "--user=1000"), "Permission denied")
}

// TestCreateAgain: the same request again is success, another one is an error
// that names the difference. Docker itself sends nothing but Get for a volume
// that it finds.
func TestCreateAgain(t *testing.T) {
	startNode(t)
	create(t, "web", "uid=999", "mode=0750")
	id := inspect(t, "web").ID

	create(t, "web", "uid=999", "mode=0750")
	create(t, "web")
	cli(t, "create", "web", "-o", "mode=750", "-o", "uid=999")
	cli(t, "create", "web")
	cliFails(t, []string{"create", "web", "-o", "uid=1000", "-o", "mode=0750"}, "volume web exists", `uid is "999", not "1000"`)
	cliFails(t, []string{"create", "web", "-o", "uid=999"}, `mode is "0750", not the default`)
	answer := ask(t, "Create", `{"Name": "web", "Opts": {"uid": "999", "mode": "0750", "on-remove": "delete"}}`)
	expect(t, answer.Err, "volume web exists", `on-remove is "trash", not "delete"`)
	if answer := ask(t, "Create", `{"Name": "web", "Opts": {"uid": "999", "mode": "0750"}}`); answer.Err != "" {
		t.Error(answer.Err)
	}
	if got := inspect(t, "web").ID; got != id {
		t.Errorf("the volume was made anew: %s, before %s", got, id)
	}
}

// TestWrongOptions: what is wrong and what would be right stands in Docker's
// own error, and nothing is made.
func TestWrongOptions(t *testing.T) {
	gv, _ := startNode(t)
	awaitReached(t)
	before := tree(t, gv)
	for option, words := range map[string][]string{
		"size=1G":                             {`option "size" is not one of adopt, client-options, gid, mode, on-remove, path, store, uid`},
		"uid=www-data":                        {"option uid", `"www-data" is not a numeric id`},
		"gid=-1":                              {"option gid", `"-1" is not a numeric id`},
		"mode=rwx":                            {"option mode", "in octal"},
		"mode=4755":                           {"option mode", "in octal"},
		"on-remove=never":                     {"option on-remove", "trash, delete, retain"},
		"adopt=perhaps":                       {"option adopt", "neither true nor false"},
		"client-options=log-file=/etc/passwd": {"option client-options", `client option "log-file" is not one of acl`},
		"client-options=ro,--volfile-server=evil":  {"option client-options", `"--volfile-server" is not one of`},
		"client-options=attribute-timeout=0 --acl": {"option client-options", "whole number"},
		"path=../x":          {"option path", `".."`},
		"path=a/../../x":     {"option path", `".."`},
		"path=volumes/x":     {"option path", "where glustervol keeps its own"},
		"path=/volumes":      {"option path", "where glustervol keeps its own"},
		"path=.glustervol/x": {"option path", "where glustervol keeps its own"},
		"path=a\nb":          {"option path", "unprintable"},
		"path=":              {"option path", "empty"},
		"store=gfs1:/other":  {"gfs1:/other is not one of those that this driver serves", gv.Address()},
		"store=nonsense":     {"store address", "SERVER[,SERVER...]:/VOLUME"},
	} {
		dockerFails(t, createArgs("web", option), words...)
	}
	dockerFails(t, createArgs("web", "path=www", "on-remove=delete"), "path and on-remove=delete do not go together")
	if got := docker(t, "volume", "ls", "--quiet"); got != "" {
		t.Errorf("docker volume ls: %q", got)
	}
	expectTree(t, gv, before)
}

// TestClientOptions: volumes with other client options have another client.
func TestClientOptions(t *testing.T) {
	startNode(t)
	create(t, "web", "path=www")
	create(t, "web-ro", "path=www", "client-options=noatime,ro")
	startContainer(t, "writer", "-v=web:/data")
	startContainer(t, "reader", "-v=web-ro:/data")

	execScript(t, "writer", "echo hi > /data/f")
	if got := execScript(t, "reader", "cat /data/f"); got != "hi" {
		t.Errorf("reads %q", got)
	}
	dockerFails(t, []string{"exec", "reader", "touch", "/data/g"}, "Read-only file system")
	if data, _ := clientProcesses(); len(data) != 2 {
		t.Errorf("clients: %d", data)
	}
	if rw, ro := inspect(t, "web"), inspect(t, "web-ro"); rw.Client.PID == ro.Client.PID || ro.Client.Source.Options != "noatime,ro" {
		t.Errorf("client %+v, read-only %+v", rw.Client, ro.Client)
	}
}

// TestPathVolume: a directory of the store that was there before is used where
// it is, and stays there.
func TestPathVolume(t *testing.T) {
	gv, _ := startNode(t)
	dir := onStore(t, gv)
	if err := os.MkdirAll(dir("srv/www"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir("srv/www/f"), []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	create(t, "www", "path=/srv/www", "gid=50")
	if got := runScript(t, "cat /data/f; echo new > /data/g; stat -c %u:%g:%a /data", "-v=www:/data"); got != "old\n0:50:750" {
		t.Errorf("existing directory: %q", got)
	}
	if v := inspect(t, "www"); v.Path != "srv/www" {
		t.Errorf("path %q", v.Path)
	}
	docker(t, "volume", "rm", "www")
	if got, err := os.ReadFile(dir("srv/www/g")); string(got) != "new\n" {
		t.Errorf("behind the removal: %q, %v", got, err)
	}
	if got := cliJSON[[]any](t, "trash", "ls"); len(got) != 0 {
		t.Errorf("in the trash: %v", got)
	}

	create(t, "made", "path=srv/deep/new", "uid=999")
	if got := runScript(t, "stat -c %u:%g:%a /data", "-v=made:/data"); got != "999:0:755" {
		t.Errorf("new directory: %q", got)
	}
	docker(t, "volume", "rm", "made")
	if !exists(dir("srv/deep/new")) {
		t.Error("the directory went with the volume")
	}
}

// TestPathsThatOverlap: a container could swap a directory on another volume's
// way for a symlink.
func TestPathsThatOverlap(t *testing.T) {
	startNode(t)
	create(t, "www", "path=srv/www")
	create(t, "same", "path=srv/www")
	for _, path := range []string{"srv", "srv/www/images"} {
		dockerFails(t, createArgs("other", "path="+path), "srv/www", "lie one within the other")
	}
}

// TestOnRemoveDelete: the data is purged without being asked for.
func TestOnRemoveDelete(t *testing.T) {
	gv, _ := startNode(t)
	create(t, "web", "on-remove=delete")
	runScript(t, "mkdir -p /data/a/b; touch /data/f /data/a/b/g", "-v=web:/data")
	docker(t, "volume", "rm", "web")
	testnode.Eventually(t, "the trash is empty", func() bool {
		left, err := os.ReadDir(onBrick(gv, ".glustervol/trash"))
		return err == nil && len(left) == 0
	})
	if exists(onBrick(gv, "volumes/web")) {
		t.Error("the directory is still there")
	}
}

// TestKeptDirectory: a directory that a removal has left is not taken over
// unasked.
func TestKeptDirectory(t *testing.T) {
	gv, _ := startNode(t)
	for name, remove := range map[string][]string{
		"retain": {"docker", "volume", "rm", "retain"},
		"trash":  {"glustervol", "rm", "--keep-data", "trash"},
	} {
		create(t, name, "on-remove="+name, "mode=0700")
		runScript(t, "echo old > /data/f", "-v="+name+":/data")
		if remove[0] == "docker" {
			docker(t, remove[1:]...)
		} else {
			cli(t, remove[1:]...)
		}
		if got, err := os.ReadFile(onBrick(gv, "volumes/"+name+"/f")); string(got) != "old\n" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		dockerFails(t, []string{"volume", "inspect", name}, "uch volume") // "No" or "no"
		dockerFails(t, createArgs(name), "directory volumes/"+name+" is on the store without a volume", "-o adopt=true")
		create(t, name, "adopt=true")
		if got := runScript(t, "cat /data/f; stat -c %a /data", "-v="+name+":/data"); got != "old\n700" {
			t.Errorf("%s, adopted: %q", name, got)
		}
	}
	if got := cliJSON[[]any](t, "trash", "ls"); len(got) != 0 {
		t.Errorf("in the trash: %v", got)
	}
}

// TestRemoveInUse: who still uses the volume is in the refusal, and the volume
// is as it was.
func TestRemoveInUse(t *testing.T) {
	startNode(t)
	startContainer(t, "box", "-v=web:/data")
	user := inspect(t, "web").Users[0]
	for _, args := range [][]string{{"rm", "web"}, {"rm", "--keep-data", "web"}} {
		cliFails(t, args, "volume web is in use on this node by "+user)
	}
	dockerFails(t, []string{"volume", "rm", "--force", "web"}, "volume is in use")
	// What Docker would send for a container of another Docker, say.
	expect(t, ask(t, "Remove", `{"Name": "web"}`).Err, "volume web is in use on this node by "+user)
	execScript(t, "box", "echo hi > /data/f")
	startContainer(t, "other", "-v=web:/data")
	if got := execScript(t, "other", "cat /data/f"); got != "hi" {
		t.Errorf("read %q", got)
	}
	docker(t, "rm", "--force", "box", "other")
	cli(t, "rm", "web")
	if got := cli(t, "ls"); strings.Contains(got, "web") {
		t.Error(got)
	}
	// Docker finds out by itself.
	dockerFails(t, []string{"volume", "inspect", "web"}, "uch volume") // "No" or "no"
}
