package clustertest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestTLS: all of Gluster speaks TLS, servers and bricks, and the driver's two planes with
// them. 'GLUSTERVOL_TLS=yes go test ./hack/clustertest' has every test do so, of which
// TestClocks has to fail: on a node two days behind, the certificates are not valid yet.
func TestTLS(t *testing.T) {
	t.Parallel()
	for _, control := range []string{"gfapi", "fuse"} {
		t.Run(control, func(t *testing.T) {
			c := newClusterWith(t, []string{"GLUSTERVOL_TLS=yes"}, "--control="+control)
			one, three := c.nodes[0], c.nodes[2]
			goThroughLife(t, one, three, "web")
			startWriter(three, "writer", "web")
			awaitLines(t, one, "web", "writer")
			held(t, one, "web", "container writer (running)")
			c.run("kill", "node3", "glusterfs")
			awaitLines(t, one, "web", "writer")

			ports := glusterPorts(t, one)
			if len(ports) != 2 {
				t.Errorf("glusterd and a brick listen at %v", ports)
			}
			for _, port := range ports {
				expectTLS(one, port)
			}
		})
	}
}

// glusterPorts are those at which glusterd and bricks listen on a node.
func glusterPorts(t *testing.T, n *node) (ports []int64) {
	t.Helper()
	for _, family := range []string{"tcp", "tcp6"} {
		sockets, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", n.pid, family))
		must(t, err)
		for line := range strings.Lines(string(sockets)) {
			fields := strings.Fields(line) // proc_net(5): local address, remote one, state
			if fields[3] != "0A" {
				continue
			}
			_, hex, _ := strings.Cut(fields[1], ":")
			port, err := strconv.ParseInt(hex, 16, 32)
			must(t, err)
			if port == 24007 || 49152 <= port && port <= 60999 { // glusterd.vol
				ports = append(ports, port)
			}
		}
	}
	return ports
}

// expectTLS wants the certificate of the node behind a port of it.
func expectTLS(n *node, port int64) {
	n.c.t.Helper()
	const files = "-CAfile /usr/lib/ssl/glusterfs.ca -cert /usr/lib/ssl/glusterfs.pem -key /usr/lib/ssl/glusterfs.key"
	n.must(n.try("nsenter", "--target", strconv.Itoa(n.pid), "--mount", "--net", "sh", "-c", "openssl s_client -brief -verify_return_error -verify_hostname "+n.name+" "+files+" -connect "+n.name+":"+strconv.FormatInt(port, 10)+" </dev/null"))
}
