package packagetest

import (
	"strings"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testmachine"
)

// TestDeb is a package's life on a Debian machine, from its installation to the last of
// its traces.
func TestDeb(t *testing.T) {
	old, next := packageFile(t, debs["amd64"], version), packageFile(t, debs["amd64"], newer)
	m := newMachine(t, old, next)
	before := m.traces()
	firstInstall(m, "apt-get install -q -y "+onNode(old))
	m.startHeart()
	upgrade(m, "apt-get install -q -y "+onNode(next))
	rotate(m)
	reboot(m)
	heal(m)

	refused(m, "apt-get remove -q -y glustervol", "dpkg-query --show glustervol")
	m.run("docker rm --force heart")
	m.run("apt-get remove -q -y glustervol")
	dockerDoesWithout(m)
	m.run("grep node1:/gv0 /etc/default/glustervol")

	beats := m.beats()
	m.run("apt-get install -q -y " + onNode(next))
	equal(t, "the units, installed again, are", m.states("is-active"), "active")
	m.startHeart()
	if m.beats() <= beats {
		t.Error("the data is gone")
	}

	out := m.run("GLUSTERVOL_REMOVE=force apt-get purge -q -y glustervol")
	expect(t, out, "container heart (running)")
	m.beatsOn() // the container keeps what it has, and the store keeps all
	m.run("docker rm --force heart")
	m.leaves(before)
}

// firstInstall installs a package, which then waits to be configured.
func firstInstall(m *machine, install string) {
	m.t.Helper()
	out := m.run(install)
	if n := strings.Count(out, "glustervol: no store is set yet: run 'glustervol init"); n != 1 {
		m.t.Errorf("what to do is said %d times: %s", n, out)
	}
	equal(m.t, "without a store the units are", m.states("is-enabled"), "disabled")
	equal(m.t, "without a store the units are", m.states("is-active"), "inactive")
	equal(m.t, "systemd's doubts", m.run("systemd-analyze verify glustervol.service glustervol.socket"), "")
	m.configure()
	equal(m.t, "the units are", m.states("is-active"), "active")
}

// upgrade upgrades under the running container, which notices nothing.
func upgrade(m *machine, upgrade string) {
	m.t.Helper()
	processes, settings := m.processes(), m.run("cat /etc/default/glustervol")
	expect(m.t, m.run("glustervol info"), "v"+version)
	m.run(upgrade)
	expect(m.t, m.run("glustervol info"), "v"+newer)
	m.beatsOn()
	equal(m.t, "Docker, the container and the client", m.processes(), processes)
	equal(m.t, "the settings", m.run("cat /etc/default/glustervol"), settings)
	equal(m.t, "the units are", m.states("is-active"), "active")
}

// rotate has logrotate set the logs aside: the client and libgfapi go on in the new ones.
func rotate(m *machine) {
	m.t.Helper()
	m.run("logrotate --force /etc/logrotate.d/glustervol")
	equal(m.t, "logs that are not empty", m.run("find /var/log/glustervol -name '*.log' -size +0"), "")
	m.run("test -s /var/log/glustervol/*-gfapi.log.1")
	m.run("gluster volume set gv0 diagnostics.client-log-level INFO && gluster volume set gv0 performance.quick-read off")
	eventually(m.t, "both have logged", func() bool {
		out, err := m.try("for f in /var/log/glustervol/*.log; do grep -qa '^\\[20' $f || exit; done")
		return err == nil && out == ""
	})
	m.run("gluster volume reset gv0")
	m.beatsOn()
}

// reboot boots the machine: the driver comes before Docker, and the container is started
// by Docker and finds its volume.
func reboot(m *machine) {
	m.t.Helper()
	beats := m.beats()
	if out, err := testmachine.Output(testmachine.Command("reboot", node)); err != nil {
		m.t.Fatalf("hack/machines reboot: %v: %s", err, out)
	}
	eventually(m.t, "container heart runs", func() bool {
		out, err := m.try("docker inspect --format '{{.State.Running}}' heart")
		return err == nil && out == "true"
	})
	m.beatsOn()
	if m.beats() <= beats {
		m.t.Error("the container has not found its volume")
	}
	m.run(`active() { systemctl show --property=ActiveEnterTimestampMonotonic --value "$1"; }
test "$(active glustervol.service)" -lt "$(active docker.service)"`)
}

// heal has the Gluster client of a running container die: the driver goes into the
// container's mount namespace in spite of all that the unit takes from it.
func heal(m *machine) {
	m.t.Helper()
	m.run(`docker volume create --driver=glustervol --opt=client-options=attribute-timeout=3 mortal
docker run --detach --name=mortal --volume=mortal:/data busybox sh -c 'while true; do echo beat >>/data/log; sleep 0.05; done'`)
	size := func() string { return m.run("stat --format=%s /srv/brick/volumes/mortal/log || true") }
	eventually(m.t, "the container writes", func() bool { return size() != "" })
	m.run(`kill -KILL "$(glustervol inspect --json mortal | grep -o '"pid": *[0-9]*' | grep -o '[0-9]*$')"`)
	eventually(m.t, "it was healed", func() bool {
		out, err := m.try("glustervol inspect mortal")
		return err == nil && strings.Contains(out, "Healed:")
	})
	before := size()
	eventually(m.t, "it writes again", func() bool { return size() != before })
	m.run("docker rm --force mortal && docker volume rm mortal")
}

// refused wants a removal to be refused, and nothing to be changed by it.
func refused(m *machine, remove, installed string) {
	m.t.Helper()
	driver := m.run("pidof glustervol")
	m.fails(remove, "not removed", "volume web is in use", "container heart (running)", "GLUSTERVOL_REMOVE=force")
	m.run("docker stop --time=0 heart")
	m.fails(remove, "volume web is in use", "container heart (exited)")
	m.run("docker start heart")
	m.beatsOn()
	m.run("systemctl stop glustervol.service")
	m.fails(remove, "volume web is in use on this node")
	m.run("systemctl start glustervol.service")
	m.run(installed)
	m.beatsOn()
	if m.run("pidof glustervol") == driver {
		m.t.Error("the driver was not stopped, so the last refusal shows nothing")
	}
	equal(m.t, "the units are", m.states("is-active"), "active")
}

// dockerDoesWithout wants Docker to start at once without the driver: it waits 15 s for
// each volume of one that is gone.
func dockerDoesWithout(m *machine) {
	m.t.Helper()
	equal(m.t, "what is left of the units", m.run("find /usr/lib/systemd /run/docker/plugins -name '*glustervol*'"), "")
	start := time.Now()
	m.run("systemctl restart docker")
	equal(m.t, "volumes that Docker knows", m.run("docker volume ls --quiet"), "")
	if d := time.Since(start); d > 12*time.Second {
		m.t.Errorf("Docker took %s to start", d)
	}
}
