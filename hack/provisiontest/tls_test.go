package provisiontest

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/glustervol/glustervol/hack/testmachine"
)

// TestTLS has three nodes speak TLS alone, between servers and with clients, and the driver
// make, use and remove a volume.
func TestTLS(t *testing.T) {
	nodes := bareMachines(t, "node1", "node2", "node3")
	dir := filepath.Join(t.TempDir(), "tls")
	must(t, command(exec.Command("../tls-ca", dir, "node1", "node2", "node3")))
	if out, err := testmachine.Output(exec.Command("../tls-ca", dir, "node1", "node2", "node3")); err != nil || out != "" {
		t.Errorf("tls-ca once more: %v: %s", err, out)
	}
	const args = "--gluster --docker --driver --peers node1,node2,node3"
	nodes[0].refuses(args+" --tls /root/tls", 1, "no file /root/tls/ca.pem: hack/tls-ca /root/tls node1 node2 node3")
	for i, m := range nodes {
		m.run("mkdir /root/tls")
		for _, file := range []string{"ca.pem", m.name + ".pem", m.name + ".key"} {
			m.copy(filepath.Join(dir, file), "/root/tls")
		}
		contains(t, m.provision(args+" --tls /root/tls"), "changed: Gluster speaks TLS, with the certificate /root/tls/"+m.name+".pem")
		if i == 0 {
			shareDownloads(t, m, nodes[1:]...)
		}
	}
	for _, m := range nodes {
		contains(t, m.provision(args+" --tls /root/tls --wait 60"), "done: "+m.name)
		before := m.state()
		out := m.provision(args + " --tls /root/tls --wait 60")
		lacks(t, out, "changed:")
		contains(t, out, "already so: Gluster speaks TLS", "done: "+m.name)
		unchanged(t, before, m.state())
		m.importImage()
	}
	usesVolume(nodes[0], nodes[2])
	speaksTLS(nodes[1])

	// A machine without a certificate is not served.
	stranger := bareMachines(t, "node4")[0]
	stranger.run("apt-get update -q && apt-get install -q -y --no-install-recommends glusterfs-client && mkdir /root/mnt")
	if out, status := stranger.try("getent hosts node1 >&2; timeout 60 mount.glusterfs node1:/gv0 /root/mnt"); status == 0 {
		t.Errorf("a client without a certificate mounts: %s", out)
	}
}

// usesVolume makes, uses and removes a volume on two nodes.
func usesVolume(m, other *machine) {
	m.docker("volume create --driver glustervol web")
	m.docker("run --rm --volume web:/data " + image + " sh -c 'hostname >/data/greeting'")
	other.within(patience, "docker volume ls --quiet | grep -qx web")
	if out := other.docker("run --rm --volume web:/data " + image + " cat /data/greeting"); strings.TrimSpace(out) == "" {
		m.t.Error("the other node finds nothing in the file")
	}
	m.within(patience, "docker volume rm web")
	other.within(patience, "! docker volume ls --quiet | grep -qx web")
}

// speaksTLS asks glusterd and a brick for a certificate.
func speaksTLS(m *machine) {
	contains(m.t, m.run("gluster volume get gv0 server.ssl; gluster volume get gv0 client.ssl"), "server.ssl", "client.ssl")
	ports := m.run("echo 24007; gluster volume status gv0 node2:/srv/gluster/gv0 detail | sed -n 's/^TCP Port *: *//p'")
	for port := range strings.FieldsSeq(ports) {
		out := m.run("openssl s_client -connect node2:" + port + " -CAfile /root/tls/ca.pem -cert /root/tls/node2.pem -key /root/tls/node2.key </dev/null 2>&1 || true")
		contains(m.t, out, "subject=CN = node2", "Verify return code: 0 (ok)")
	}
}
