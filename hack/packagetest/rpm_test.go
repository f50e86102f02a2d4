package packagetest

import "testing"

// TestRPM runs the scripts with the arguments that rpm gives them. The machine is a
// Debian one, which has what the package depends on, but not by its names.
func TestRPM(t *testing.T) {
	old, next := packageFile(t, rpms["amd64"], version), packageFile(t, rpms["amd64"], newer)
	m := newMachine(t, old, next)
	const rpm = "rpm --force-debian --nodeps "
	firstInstall(m, rpm+"--install "+onNode(old))
	m.startHeart()
	upgrade(m, rpm+"--upgrade "+onNode(next))
	refused(m, rpm+"--erase glustervol", "rpm --query glustervol")
	m.run("docker rm --force heart")
	m.run(rpm + "--erase glustervol")
	dockerDoesWithout(m)
	m.run("grep node1:/gv0 /etc/default/glustervol.rpmsave")
	equal(t, "what is enabled", m.run("find /etc/systemd -name 'glustervol*'"), "")
}
