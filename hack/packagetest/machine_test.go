package packagetest

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/glustervol/glustervol/hack/testmachine"
)

// node is the machine: a Gluster server with volume gv0, and Docker with image busybox.
const node = "node1"

// prepareNode is run on it once. The noise of apt is in its output.
const prepareNode = `set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends busybox-static docker.io glusterfs-server iptables logrotate rpm
systemctl enable --now glusterd docker
mkdir -p /srv/brick /root/image/bin /root/packages
gluster volume create gv0 node1:/srv/brick force
gluster volume start gv0
cp /bin/busybox /root/image/bin/
for name in sh sleep cat; do ln -s busybox /root/image/bin/$name; done
tar -C /root/image -c . | docker import - busybox
`

var startNode = sync.OnceValue(func() error {
	if out, err := testmachine.Output(testmachine.Command("up", node)); err != nil {
		return fmt.Errorf("hack/machines up: %w: %s", err, out)
	}
	if out, err := testmachine.Output(testmachine.Command("exec", node, "sh", "-c", prepareNode)); err != nil {
		return fmt.Errorf("prepare %s: %w: %s", node, err, out)
	}
	return nil
})

// machine is the node with a volume web, to which container heart writes, once it is
// started: a line twenty times a second, and how many writes have failed.
type machine struct{ t *testing.T }

// newMachine brings packages to the node, in /root/packages.
func newMachine(t *testing.T, files ...string) *machine {
	t.Helper()
	must(t, startNode())
	m := &machine{t}
	out, err := testmachine.Output(testmachine.Command(append(append([]string{"copy"}, files...), node+":/root/packages")...))
	if err != nil {
		t.Fatalf("hack/machines copy: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := testmachine.Output(testmachine.Command("exec", node, "journalctl", "--no-pager", "--unit=glustervol", "--lines=40"))
			t.Logf("%s", log)
		}
	})
	return m
}

// onNode is where newMachine has put a package.
func onNode(file string) string { return filepath.Join("/root/packages", filepath.Base(file)) }

// try runs a shell script on the node.
func (m *machine) try(script string) (string, error) {
	return testmachine.Output(testmachine.Command("exec", node, "sh", "-c", "export DEBIAN_FRONTEND=noninteractive\n"+script))
}

// run is a try that has to succeed.
func (m *machine) run(script string) string {
	m.t.Helper()
	out, err := m.try(script)
	if err != nil {
		m.t.Fatalf("%s: %v: %s", script, err, out)
	}
	return out
}

// fails is a try that has to fail, with words in what it says.
func (m *machine) fails(script string, words ...string) {
	m.t.Helper()
	out, err := m.try(script)
	if err == nil {
		m.t.Errorf("%s: succeeded: %s", script, out)
	}
	expect(m.t, out, words...)
}

// states are what systemctl says of the driver's socket and service, once if it is the same.
func (m *machine) states(verb string) string {
	out, _ := m.try("systemctl " + verb + " glustervol.socket glustervol.service") // it fails when one is not
	return strings.Join(slices.Compact(strings.Fields(out)), " ")
}

// configure does what a user is told to do behind a first installation. That the
// machine has booted a moment ago, its kernel does not tell: it is that of the tests'
// machine; so the driver is told to wait for the store whenever it starts.
func (m *machine) configure() {
	m.t.Helper()
	const init = "glustervol init --store node1:/gv0 --boot-wait 100000h"
	m.run(init)
	settings, driver := m.run("cat /etc/default/glustervol"), m.run("pidof glustervol")
	m.run(init)
	equal(m.t, "the settings, said again, are", m.run("cat /etc/default/glustervol"), settings)
	equal(m.t, "the driver, behind that, is", m.run("pidof glustervol"), driver)
	// Warnings, of a store with one server and one brick, are no failures.
	out, _ := m.try("glustervol doctor; echo status $?")
	expect(m.t, out, "status 3")
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "units ") || strings.Contains(line, " units ") {
			expect(m.t, line, "ok ")
		}
	}
}

// startHeart starts the container.
func (m *machine) startHeart() {
	m.t.Helper()
	m.run(`docker run --detach --name=heart --restart=always --volume=web:/data --volume-driver=glustervol busybox sh -c '
		while true; do echo beat >>/data/log || echo FAILED; sleep 0.05; done'`)
	m.beatsOn()
}

// beats are how many lines the brick has.
func (m *machine) beats() int {
	m.t.Helper()
	n, err := strconv.Atoi(m.run("wc -l </srv/brick/volumes/web/log"))
	must(m.t, err)
	return n
}

// beatsOn wants the container to write on, and to have written all it should.
func (m *machine) beatsOn() {
	m.t.Helper()
	before := m.beats()
	eventually(m.t, "container heart writes", func() bool { return m.beats() > before })
	equal(m.t, "what container heart says", m.run("docker logs heart"), "")
}

// processes tells what must be the same after an upgrade: Docker, the container and the
// Gluster client.
func (m *machine) processes() string {
	m.t.Helper()
	return m.run("pidof dockerd; docker inspect --format '{{.State.Pid}}' heart; pgrep --full --exact 'glusterfs .*/run/glustervol/clients/.*'")
}

// leaves waits until there are no other traces than before; systemd forgets a unit in
// its own time.
func (m *machine) leaves(before string) {
	m.t.Helper()
	var now string
	defer func() { equal(m.t, "traces", now, before) }()
	eventually(m.t, "no trace is left", func() bool {
		now = m.traces()
		return now == before
	})
}

// traces is all that a package may leave on the node.
func (m *machine) traces() string {
	m.t.Helper()
	return m.run(`find / -xdev -name '*glustervol*' -not -path '/root/*' | sort
systemctl list-unit-files --all --no-legend '*glustervol*'
systemctl list-units --all --no-legend '*glustervol*'
awk '$5 ~ "glustervol" { print "mounted on", $5 }' /proc/self/mountinfo
pgrep --list-full glustervol || true`)
}
