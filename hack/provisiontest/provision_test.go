package provisiontest

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testmachine"
)

// TestProvision is the life of three nodes, from bare machines to the end of a driver.
func TestProvision(t *testing.T) {
	nodes := bareMachines(t, "node1", "node2", "node3")
	one, two, three := nodes[0], nodes[1], nodes[2]
	refusedOnBare(three)
	inAnyOrder(one, two, three)
	for _, m := range nodes {
		m.importImage()
	}
	serviceWritesEverywhere(nodes)
	nothingChanges(nodes)
	refusedOnNode(one, two)
	survivesReboot(two)
	leavesNoTraces(one, three)
}

// refusedOnBare has a machine that nothing was done to refuse what cannot be done.
func refusedOnBare(m *machine) {
	before := m.state()
	for args, word := range map[string]string{
		"":                                      "no role",
		"--gluster":                             "needs --peers",
		"--gluster --peers":                     "--peers needs a value",
		"--gluster --peers node1,node3,node3":   "names node3 twice",
		"--gluster --peers 'node1;reboot'":      "'node1;reboot' in --peers is no host's name",
		"--gluster --peers node3 --brick srv":   "--brick is an absolute path",
		"--gluster --peers node3 --volume a/b":  "'a/b' is no name for a Gluster volume",
		"--gluster --peers node3 --replica 0":   "--replica takes a number, not '0'",
		roles + " --replica 2":                  "3 peers cannot have 2 copies",
		"--gluster --peers node3 --arbiter":     "--arbiter is the third of three copies",
		"--driver":                              "--driver needs --store, or --peers",
		"--driver --store gv0":                  "'gv0' is no store",
		"--docker --swarm":                      "--swarm needs --gluster",
		"--docker --wait soon":                  "--wait takes seconds, not 'soon'",
		"--docker --remove docker":              "--remove takes away the driver alone",
		"--docker --format-all-disks":           "unknown argument '--format-all-disks'",
		"node3":                                 "unknown argument 'node3'",
		"--gluster --peers node1,node2,node3 -": "unknown argument '-'",
	} {
		m.fails(args, 2, word, "provision.sh --help")
	}
	contains(m.t, m.provision("--help"), "--force-brick", "--swarm-token FILE")
	for args, word := range map[string]string{
		"--driver /root/none.deb --peers node1":                 "no driver at /root/none.deb",
		"--gluster --peers node1,node2":                         "none of the peers node1 node2 is this machine",
		"--gluster --peers node1,nobody,node3":                  "the name nobody cannot be resolved",
		"--gluster --peers node3,localhost":                     "node3 and localhost are both this machine",
		"--driver --store nobody:/gv0":                          "the name nobody cannot be resolved",
		"--docker --swarm --swarm-token /etc/hosts":             "/etc/hosts has no token",
		"--gluster --peers node3 --brick /var/brick":            "would be on the root file system",
		"--gluster --peers node3 --brick /run/brick":            "a file system of type tmpfs",
		"--gluster --peers node3 --brick /opt/b --force-brick":  "a file system of type overlayfs",
		"--gluster --peers node3 --brick /srv":                  "/srv is a mount point",
		"--gluster --peers node3 --brick /etc/hostname":         "is no directory",
		"--gluster --peers node3 --brick /root --force-brick":   "the directory /root is not empty",
		"--gluster --peers node3 --brick /srv/b --driver /nope": "no driver at /nope",
	} {
		m.fails(args, 1, word)
	}
	unchanged(m.t, before, m.state())
	refusedByWhatIsThere(m)
}

// refusedByWhatIsThere changes the machine so that it refuses, and changes it back.
func refusedByWhatIsThere(m *machine) {
	m.run("cp /etc/os-release /root/ && printf 'ID=slackware\nVERSION_ID=15\nPRETTY_NAME=Slackware\n' >/etc/os-release")
	m.refuses(roles, 1, "the packages of Slackware are not known", "docker.io, glusterfs-client, glusterfs-server", "Debian 12 and later")
	m.run("sed -i 's/^VERSION_ID=.*/VERSION_ID=\"11\"/' /root/os-release && cp /root/os-release /etc/os-release")
	m.refuses(roles, 1, "the packages of Debian GNU/Linux 12 (bookworm) are not known")
	m.run("sed -i 's/^VERSION_ID=.*/VERSION_ID=\"12\"/' /root/os-release && cp /root/os-release /etc/os-release && rm /root/os-release")

	m.run("printf '#!/bin/sh\necho Avail; echo 1023\n' >/usr/local/sbin/df && chmod 755 /usr/local/sbin/df")
	m.refuses(roles, 1, "the file system of the brick /srv/gluster/gv0 has 1023 MiB free")
	m.run("rm /usr/local/sbin/df")

	m.run("systemd-run --unit=thief systemd-socket-activate --accept --listen=24007 true")
	m.within(patience, ": </dev/tcp/127.0.0.1/24007")
	m.refuses(roles, 1, "another program than the service glusterd has taken port 24007")
	m.run("systemctl stop thief; systemctl reset-failed")
}

// inAnyOrder provisions the machines in another order than the peers'.
func inAnyOrder(one, two, three *machine) {
	t := three.t
	out := three.provision(roles)
	contains(t, out, "changed: installed docker.io glusterfs-client glusterfs-server", "changed: the driver runs",
		"waiting for node1: no glusterd answers there yet", "waiting for node2: no glusterd", "waiting for the Swarm of node1", "waiting: run this again")
	shareDownloads(t, three, one, two)
	out = one.provision(roles)
	contains(t, out, "changed: made a Swarm", "waiting for node2: no glusterd", "waiting for the driver to reach the store node1,node2,node3:/gv0")
	lacks(t, out, "waiting for node3")
	out = two.provision(roles)
	contains(t, out, "changed: took node1 into the pool", "changed: took node3 into the pool", "changed: made the Gluster volume gv0 of node1:/srv/gluster/gv0 ",
		"changed: started the Gluster volume gv0", "changed: joined the Swarm", "already so: the driver reaches the store node1,node2,node3:/gv0", "done: node2")
	two.explain(out)
	contains(t, three.provision(roles+" --wait 60"), "changed: joined the Swarm", "done: node3")
	contains(t, one.run("gluster volume info gv0"), "Number of Bricks: 1 x 3 = 3", "Status: Started")
	if nodes := one.docker("node ls --format '{{.Hostname}} {{.ManagerStatus}}'"); strings.Count(nodes, "Reachable")+strings.Count(nodes, "Leader") != 3 {
		t.Errorf("the Swarm's managers are: %s", nodes)
	}
	contains(t, two.run("systemctl show --property=After docker.service"), "glustervol.service")
	lacks(t, two.run("grep -r SWMTKN /var/log /etc /var/lib/glusterd /srv /tmp 2>/dev/null || true"), "SWMTKN")
}

// explain logs why the driver does not reach the store, if that is what a provisioning has waited for.
func (m *machine) explain(out string) {
	m.t.Helper()
	if strings.Contains(out, "waiting for the driver") {
		why, _ := m.try("glustervol info; journalctl --unit=glustervol --no-pager; tail -n 40 /var/log/glustervol/* /var/log/glusterfs/bricks/*")
		m.t.Log(why)
	}
}

// serviceWritesEverywhere has a service write to one volume on all nodes.
func serviceWritesEverywhere(nodes []*machine) {
	one := nodes[0]
	one.docker("service create --quiet --detach --no-resolve-image --name everywhere --mode global --hostname '{{.Node.Hostname}}' " +
		"--mount type=volume,source=shared,target=/data,volume-driver=glustervol " + image +
		" sh -c 'while hostname >>/data/log; do sleep 0.5; done'")
	for _, m := range nodes {
		m.within(patience, `names=$(docker run --rm -v shared:/data --volume-driver glustervol `+image+` sort -u /data/log) && echo "$names" && [[ $names == $'node1\nnode2\nnode3' ]]`)
	}
}

// nothingChanges provisions all machines again.
func nothingChanges(nodes []*machine) {
	for _, m := range nodes {
		before := m.state()
		out := m.provision(roles)
		lacks(m.t, out, "changed:", "waiting")
		contains(m.t, out, "done: "+m.name)
		unchanged(m.t, before, m.state())
	}
}

// refusedOnNode has a node refuse what would change what it is, or what a firewall is in
// the way of.
func refusedOnNode(m, peer *machine) {
	m.refuses("--gluster --peers node1,node2,node3 --brick /srv/other", 1,
		"there is a Gluster volume gv0 with other bricks", "node1:/srv/gluster/gv0", "not node1:/srv/other")
	m.refuses("--driver --peers node1", 1, "/etc/default/glustervol has another store, node1,node2,node3:/gv0")
	certificates := filepath.Join(m.t.TempDir(), "tls")
	must(m.t, command(exec.Command("../tls-ca", certificates, "node1")))
	m.copy(certificates, "/root/tls")
	m.refuses(roles+" --tls /root/tls", 1, "the Gluster volume gv0 runs without TLS")
	m.run("cp /etc/ssl/certs/ca-certificates.crt /root/tls/ca.pem")
	m.refuses(roles+" --tls /root/tls", 1, "/root/tls/node1.pem is not, or no more, a certificate of /root/tls/ca.pem")
	peer.run("iptables --insert INPUT --protocol tcp --dport 24007 --jump DROP")
	m.refuses(roles, 1, "node2 answers a ping, but a firewall keeps this machine from its port 24007")
	peer.run("iptables --delete INPUT --protocol tcp --dport 24007 --jump DROP")
}

// survivesReboot reboots a node with a container that is always to run.
func survivesReboot(m *machine) {
	m.docker("run --detach --name always --restart always --volume own:/data --volume-driver glustervol " + image +
		" sh -c 'grep \" /data fuse.glusterfs\" /proc/mounts >>/data/mounts; while date >>/data/log; do sleep 0.2; done'")
	m.within(patience, "docker exec always grep -q . /data/log")
	must(m.t, command(testmachine.Command("reboot", m.name)))
	m.within(patience, "[[ $(docker exec always grep -c fuse.glusterfs /data/mounts) == 2 ]]")
	lines := m.run("docker exec always cat /data/log | wc -l")
	m.within(10*time.Second, "(($(docker exec always cat /data/log | wc -l) > "+lines+"))")
}

// leavesNoTraces takes the driver off a node, whose volumes the others keep.
func leavesNoTraces(other, m *machine) {
	other.docker("service rm everywhere")
	m.within(patience, "[[ -z $(docker ps --all --quiet) ]]")
	m.docker("create --name stopped --volume shared:/data --volume-driver glustervol " + image + " true")
	m.refuses("--remove driver", 1, "containers have volumes of the driver, running or not: stopped (shared)")
	m.docker("rm stopped")
	contains(m.t, m.provision("--remove driver"), "changed: removed the driver")
	for what, script := range map[string]string{
		"files":     `find / \( -path /proc -o -path /sys -o -path /root -o -path /srv -o -path /var/lib/docker \) -prune -o -name '*glustervol*' ! -name peer_glustervol_swarm -print`,
		"units":     "systemctl list-units --all --no-legend '*glustervol*'",
		"processes": "pgrep --list-full --exact glustervol || true",
		"mounts":    "grep -F /run/glustervol /proc/self/mountinfo || true",
	} {
		if left := m.run(script); left != "" {
			m.t.Errorf("%s are left: %s", what, left)
		}
	}
	m.run("timeout 10 systemctl restart docker && timeout 5 docker volume ls")
	contains(m.t, m.provision("--remove driver"), "already so: no driver is installed")
	contains(m.t, other.docker("run --rm -v shared:/data --volume-driver glustervol "+image+" sort -u /data/log"), "node3")
	contains(m.t, m.provision(roles), "changed: installed the driver", "done: node3")
	contains(m.t, m.docker("run --rm -v shared:/data --volume-driver glustervol "+image+" sort -u /data/log"), "node3")
}
