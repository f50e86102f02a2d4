package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/plugin"
	"github.com/glustervol/glustervol/volume"
)

// managed tells that the driver of the tests is a managed plugin, and no process of
// the machine.
var managed bool

// pluginName is the plugin's, as it is created.
const pluginName = "glustervol"

// driverName is the driver's, as dockerd shows it.
func driverName() string {
	if managed {
		return pluginName + ":latest"
	}
	return "glustervol"
}

// endToEnd are the tests of what a user sees, which a managed plugin has to pass as well.
var endToEnd = []struct {
	name string
	test func(*testing.T)
}{
	{"FirstHour", TestFirstHour},
	{"DockerShowsVolume", TestDockerShowsVolume},
	{"RunCreatesVolume", TestRunCreatesVolume},
	{"ContainersShareVolumeAndClient", TestContainersShareVolumeAndClient},
	{"CopyOutOfRunningContainer", TestCopyOutOfRunningContainer},
	{"ImageContent", TestImageContent},
	{"ReadOnlyMount", TestReadOnlyMount},
	{"AnonymousVolume", TestAnonymousVolume},
	{"ManyContainersAtOnce", TestManyContainersAtOnce},
	{"OwnerAndMode", TestOwnerAndMode},
	{"CreateAgain", TestCreateAgain},
	{"ClientOptions", TestClientOptions},
	{"PathVolume", TestPathVolume},
	{"OnRemoveDelete", TestOnRemoveDelete},
	{"KeptDirectory", TestKeptDirectory},
	{"RemoveInUse", TestRemoveInUse},
	{"Compose", TestCompose},
	{"SwarmService", TestSwarmService},
	{"TwoNodes", func(t *testing.T) { testTwoNodes(t, "--control="+volume.ControlAPI) }}, // the other one is a process
	{"StoppedContainers", TestStoppedContainers},
	{"DoctorWell", TestDoctorWell},
	{"Healed", TestHealed},
	{"ClientDiesWithDriver", TestClientDiesWithDriver},
	{"ClientDiesWithoutBricks", TestClientDiesWithoutBricks},
	{"StartedMeanwhile", TestStartedMeanwhile},
	{"DriverRestart", TestDriverRestart},
	{"DriverReplacedUnderWriters", TestDriverReplacedUnderWriters},
	{"DockerKilledUnderLiveRestore", TestDockerKilledUnderLiveRestore},
	{"DockerKilled", TestDockerKilled},
}

// TestManaged has the driver be a managed plugin.
func TestManaged(t *testing.T) {
	beManaged(t)
	for _, one := range endToEnd {
		t.Run(one.name, func(t *testing.T) {
			one.test(t)
			expectNoZombies(t)
		})
	}
	t.Run("MuteServer", testMuteServer)
	t.Run("Settings", testSettings)
	t.Run("TwoPlugins", testTwoPlugins)
	t.Run("Examples", testPluginExamples)
}

// beManaged has drivers be managed plugins, for a test. dockerd is started anew, since
// it remembers for life that a process of the host was a driver.
func beManaged(t *testing.T) {
	t.Helper()
	testnode.Docker(t)
	restartDocker(t, testnode.StopDocker)
	managed = true
	t.Cleanup(func() { beProcess(t) })
}

// beProcess has drivers be processes again. A plugin that is there keeps dockerd from
// looking for one, even if it is disabled.
func beProcess(t *testing.T) {
	t.Helper()
	if !managed {
		return
	}
	managed = false
	_, _ = testnode.TryDocker("plugin", "rm", "--force", pluginName) // there may be none
	restartDocker(t, testnode.StopDocker)
}

// expectNoZombies wants somebody to have waited for each client that has ended.
func expectNoZombies(t *testing.T) {
	t.Helper()
	testnode.Eventually(t, "clients that have ended are waited for", func() bool {
		files, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
		return !slices.ContainsFunc(files, func(file string) bool {
			stat, _ := os.ReadFile(file)
			_, rest, zombie := strings.Cut(string(stat), "(glusterfs) Z ")
			parent, _, _ := strings.Cut(rest, " ")
			// A client itself does not wait for the child that it mounts with.
			name, _ := os.ReadFile("/proc/" + parent + "/comm")
			return zombie && string(name) != "glusterfs\n"
		})
	})
}

// testMuteServer: the plugin is up before it has heard of Gluster; else dockerd would
// have disabled it.
func testMuteServer(t *testing.T) {
	testnode.Listen(t, "[::1]:24007")
	serveDocker(t, "[::1]:/gv")
	testnode.Eventually(t, "the trouble is told", func() bool { return strings.Contains(cli(t, "info"), "NOT reached") })
	if state := docker(t, "plugin", "inspect", "--format={{.Enabled}}", pluginName); state != "true" {
		t.Errorf("enabled: %s", state)
	}
}

// startAgain starts a container behind dockerd's death. dockerd may then have unmounted
// what a managed plugin shows it, and the start fails, but never on another directory;
// within a second the plugin has itself started again, and is seen.
func startAgain(t *testing.T, container string) {
	t.Helper()
	if !managed {
		docker(t, "start", container)
		return
	}
	testnode.Eventually(t, "the container starts", func() bool {
		_, err := testnode.TryDocker("start", container)
		return err == nil
	})
}

// pluginConfig is of hack/plugin/config.json what the tests have to know.
type pluginConfig struct {
	Env []pluginVariable
}

type pluginVariable struct{ Name, Value string }

// pluginBinary is what the plugin has been made of.
var pluginBinary string

// pluginState is where plugins keep what /var/lib has elsewhere: the tests' machine has
// that of the machine that it runs on, but for single directories.
const pluginState = "/run/plugin-state"

// createPlugin makes a plugin of a binary, and of the rest that users get.
func createPlugin(name, binary string) error {
	out, err := exec.Command("../../hack/plugin/create", name, binary).CombinedOutput()
	if err != nil {
		return fmt.Errorf("create the plugin: %w: %s", err, out)
	}
	if err := os.MkdirAll(pluginState, 0o755); err != nil {
		return err
	}
	_, err = testnode.TryDocker("plugin", "set", name, "state.source="+pluginState)
	return err
}

// settings are the flags of serve as a plugin is given them, and all others empty.
func settings(args []string) ([]string, error) {
	data, err := os.ReadFile("../../hack/plugin/config.json")
	if err != nil {
		return nil, err
	}
	var config pluginConfig
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, err
	}
	given := map[string]string{}
	for _, arg := range args {
		flag, value, isFlag := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if isFlag && strings.HasPrefix(arg, "--") {
			given["GLUSTERVOL_"+strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))] = value
		} else if arg != "serve" {
			given[storeVariable] = strings.TrimSpace(given[storeVariable] + " " + arg)
		}
	}
	var set []string
	for _, v := range config.Env {
		set = append(set, v.Name+"="+given[v.Name])
		delete(given, v.Name)
	}
	if len(given) > 0 {
		return nil, fmt.Errorf("a managed plugin cannot be given %v", given)
	}
	return set, nil
}

func dockerRuns() bool {
	_, err := testnode.TryDocker("version")
	return err == nil
}

// enable has the plugin run. While dockerd does not, there is nothing to be done: it
// starts the plugin itself.
func (d *driver) enable() error {
	if !dockerRuns() {
		return nil
	}
	ready := func() bool { return command(context.Background(), "info").Run() == nil }
	state, err := testnode.TryDocker("plugin", "inspect", "--format={{.Enabled}}", pluginName)
	binary := cmp.Or(d.binary, testExecutable(d.t))
	if err == nil && binary != pluginBinary { // an upgrade, as it is done without a registry
		docker(d.t, "plugin", "rm", "--force", pluginName)
	}
	if err != nil || binary != pluginBinary {
		if err := createPlugin(pluginName, binary); err != nil {
			return err
		}
		pluginBinary = binary
	} else if state == "true" {
		testnode.Eventually(d.t, "the plugin serves", ready)
		return nil
	}
	set, err := settings(d.args)
	if err == nil {
		_, err = testnode.TryDocker(append([]string{"plugin", "set", pluginName}, set...)...)
	}
	if err == nil {
		_, err = testnode.TryDocker("plugin", "enable", pluginName)
	}
	if err == nil {
		testnode.Eventually(d.t, "the plugin serves", ready)
	}
	return err
}

func (d *driver) disable() {
	d.t.Helper()
	if !dockerRuns() {
		return
	}
	state, err := testnode.TryDocker("plugin", "inspect", "--format={{.Enabled}}", pluginName)
	if err != nil || state != "true" {
		return
	}
	docker(d.t, "plugin", "disable", "--force", pluginName)
}

// killPlugin has the plugin crash; dockerd starts it again.
func (d *driver) killPlugin() {
	d.t.Helper()
	pid := cliJSON[plugin.Info](d.t, "info").PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		d.t.Fatal(err)
	}
	testnode.Eventually(d.t, "dockerd starts the plugin again", func() bool {
		out, err := command(context.Background(), "info", "--json").Output()
		var info plugin.Info
		return err == nil && json.Unmarshal(out, &info) == nil && info.PID != pid
	})
}

// pluginLine is a line of dockerd's log that a plugin has written.
var pluginLine = regexp.MustCompile(`(?m)^time=\S+ level=\w+ msg=("(?:[^"\\]|\\.)*") plugin=`)

// pluginLog is what the plugin has logged, as dockerd's log has it.
func pluginLog(t testing.TB) string {
	t.Helper()
	log, err := os.ReadFile("/run/dockerd.out")
	if err != nil {
		t.Error(err)
	}
	var lines strings.Builder
	for _, line := range pluginLine.FindAllSubmatch(log, -1) {
		text, err := strconv.Unquote(string(line[1]))
		if err != nil {
			t.Errorf("%v: %s", err, line[1])
		}
		fmt.Fprintln(&lines, text)
	}
	return lines.String()
}

// TestPluginConfig: what config.json gives the plugin is where the driver looks for it,
// and each variable is a flag of serve.
func TestPluginConfig(t *testing.T) {
	var config struct {
		pluginConfig
		Interface       struct{ Socket string }
		PropagatedMount string
		Mounts          []struct{ Source, Destination string }
	}
	data, err := os.ReadFile("../../hack/plugin/config.json")
	if err == nil {
		err = json.Unmarshal(data, &config)
	}
	if err != nil {
		t.Fatal(err)
	}
	if config.PropagatedMount != plugin.ManagedMounts || "/run/docker/plugins/"+config.Interface.Socket != plugin.ManagedSocket {
		t.Errorf("%+v", config)
	}
	for _, m := range config.Mounts {
		if m.Destination != plugin.ManagedHost+m.Source {
			t.Errorf("%s is at %s", m.Source, m.Destination)
		}
	}
	serve := newServeCommand(new(options))
	for _, v := range config.Env {
		flag := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(v.Name, "GLUSTERVOL_"), "_", "-"))
		if v.Name != storeVariable && serve.Flags().Lookup(flag) == nil {
			t.Errorf("%s is no flag", v.Name)
		}
		if v.Value != "" {
			t.Errorf("%s is %q: the default is the flag's", v.Name, v.Value)
		}
	}
}

// testSettings: a setting that is missing is named in dockerd's log, and put right.
func testSettings(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	d := &driver{t: t}
	if err := d.enable(); err == nil {
		t.Error("enabled without a store")
	}
	expect(t, pluginLog(t), "no store is given; name one, such as 'glustervol serve gfs1,gfs2,gfs3:/gv0', or set GLUSTERVOL_STORE")
	docker(t, "plugin", "set", pluginName, storeVariable+"="+gv.Address())
	docker(t, "plugin", "enable", pluginName)
	d.disable()
}

// testTwoPlugins: plugins with stores of their own serve side by side under names of
// their own, and do not start under the same.
func testTwoPlugins(t *testing.T) {
	const second = "second"
	startNode(t)
	other := testnode.NewGlusterVolume(t, 1, "")
	if err := createPlugin(second, testExecutable(t)); err != nil {
		t.Fatal(err)
	}
	docker(t, "plugin", "set", second, storeVariable+"="+other.Address())
	dockerFails(t, []string{"plugin", "enable", second}, second)
	expect(t, pluginLog(t), "another driver uses /run/glustervol; stop it first, or give this one another --name")

	docker(t, "plugin", "set", second, "GLUSTERVOL_NAME="+second, "GLUSTERVOL_LINGER=100ms")
	docker(t, "plugin", "enable", second)
	docker(t, "volume", "create", "--driver="+second, "theirs")
	create(t, "ours")
	script := "echo hi > /ours/f; echo hi > /theirs/f; sleep 1000000"
	docker(t, "run", "--detach", "--name=box", "--stop-signal=KILL", "-v=ours:/ours", "-v=theirs:/theirs", testnode.Image, "sh", "-c", script)
	awaitFile(t, onBrick(other, "volumes/theirs/f"), "hi\n")
	expect(t, cli(t, "--socket=/run/second/admin.sock", "inspect", "theirs"), other.Address())
	cliFails(t, []string{"inspect", "theirs"}, "no such volume")

	docker(t, "plugin", "disable", "--force", second)
	execScript(t, "box", "echo more >> /theirs/f; echo more >> /ours/f")
	docker(t, "plugin", "enable", second)
	docker(t, "rm", "--force", "box")
	docker(t, "volume", "rm", "theirs")
	docker(t, "plugin", "rm", "--force", second)
	for _, dir := range []string{"/run/second", pluginState + "/second"} {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
}

// TestMove: a node that goes from one form to the other keeps its volumes, its references,
// and the clients under running containers.
func TestMove(t *testing.T) {
	testnode.Require(t)
	gv := testnode.NewGlusterVolume(t, 1, "")
	testnode.Docker(t)
	restartDocker(t, testnode.StopDocker, "--live-restore")
	process := serveDocker(t, "--state-dir="+pluginState+"/glustervol", gv.Address())
	_, there := startOtherNode(t, gv.Address())
	refused := func(volume, container string) {
		t.Helper()
		testnode.Eventually(t, "the other node knows of container "+container, func() bool {
			_, errs, code := tryCLI(t, there("rm", volume)...)
			if code == 0 {
				t.Fatalf("volume %s was removed", volume)
			}
			return strings.Contains(errs, "by container "+container)
		})
	}
	h := startHeart(t, gv, "heart", "web")
	startContainer(t, "old", "-v=old:/data")
	execScript(t, "old", "echo hi > /data/f")
	docker(t, "stop", "--time=0", "old")
	refused("old", "old (exited)")
	startContainer(t, "moves", "-v=moves:/data")
	execScript(t, "moves", "echo 1 >> /data/f")
	cliFails(t, []string{"release", "moves"}, "release volume moves", "container moves (running)")
	docker(t, "rm", "--force", "moves")
	if got := cli(t, "release"); got != "moves" {
		t.Errorf("released %q", got)
	}

	process.stop()
	asPlugin := &driver{t: t, args: []string{"--linger=100ms", "--boot-wait=0s", gv.Address()}}
	managed = true
	t.Cleanup(func() { beProcess(t) })
	asPlugin.start()
	testnode.KillDocker(t)
	testnode.StartDocker(t, "--live-restore")
	h.beatsOn(t)
	refused("web", "heart (running)")
	refused("old", "old (exited)")
	cli(t, there("create", "fresh")...)
	runScript(t, "echo hi > /data/f", "-v=fresh:/data")
	docker(t, "volume", "rm", "fresh")
	runScript(t, "echo 2 >> /data/f", "-v=moves:/data")
	cli(t, "release", "moves")

	docker(t, "plugin", "rm", "--force", pluginName)
	managed = false
	process.start()
	testnode.KillDocker(t)
	testnode.StartDocker(t, "--live-restore")
	h.beatsOn(t)
	h.neverFailed(t)
	refused("web", "heart (running)")
	refused("old", "old (exited)")
	docker(t, "start", "old")
	if got := execScript(t, "old", "cat /data/f") + " " + runScript(t, "echo 3 >> /data/f; cat /data/f", "-v=moves:/data"); got != "hi 1\n2\n3" {
		t.Errorf("found %q", got)
	}
}

// withPlugin marks the README's examples that take a managed plugin.
const withPlugin = "with a managed plugin"

// testPluginExamples runs them, on a store gfs1,gfs2,gfs3:/gv0, beside a container that
// goes on writing. 'make plugin' is done by createPlugin here.
func testPluginExamples(t *testing.T) {
	gv := testnode.NamedGlusterVolume(t, "gv0")
	d := serveDocker(t, "gfs1,gfs2,gfs3:/gv0")
	docker(t, "tag", testnode.Image, "alpine")
	h := startHeart(t, gv, "heart", "beats")
	dir := t.TempDir()
	number := 0
	for _, b := range readmeBlocks(t) {
		if b.skipped != withPlugin {
			continue
		}
		number++
		script := strings.ReplaceAll(b.text, "/usr/local/sbin/", dir)
		before, after, made := strings.Cut(script, "sudo make plugin\n")
		bash(t, dir, before)
		if made {
			_, _ = testnode.TryDocker("plugin", "rm", "--force", pluginName) // the first example is of a node without it
			if err := createPlugin(pluginName, testExecutable(t)); err != nil {
				t.Fatal(err)
			}
			bash(t, dir, after)
		}
		testnode.Eventually(t, "the plugin serves", func() bool { return command(context.Background(), "info").Run() == nil })
		h.beatsOn(t)
	}
	if number < 4 {
		t.Errorf("only %d examples were run", number)
	}
	h.neverFailed(t)
	d.start()
}

// bash runs an example. Root needs no sudo, and a bare machine has none.
func bash(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euxc", `sudo() { "$@"; }; `+script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asMain+"=1", "PATH="+dir+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s\n%v: %s", script, err, out)
	}
}
