package provisiontest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/glustervol/glustervol/hack/testmachine"
)

// TestVagrant has Vagrant make the nodes of the Vagrantfile, of containers, and take them
// away. The boxes of the other providers come from a server on the internet: for these the
// file is only validated.
func TestVagrant(t *testing.T) {
	if testing.Short() {
		t.Skip("takes machines with systemd: run 'sudo make test-provision'")
	}
	dir := t.TempDir()
	vagrant := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("vagrant", args...)
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "VAGRANT_HOME="+filepath.Join(dir, "home"), "VAGRANT_DOTFILE_PATH="+filepath.Join(dir, "machines"),
			"VAGRANT_DEFAULT_PROVIDER=docker", "VAGRANT_CHECKPOINT_DISABLE=1")
		out, err := testmachine.Output(cmd)
		t.Logf("vagrant %v:\n%s", args, out)
		if err != nil {
			t.Fatalf("vagrant %v: %v", args, err)
		}
		return out
	}
	vagrant("validate", "--ignore-provider")
	t.Cleanup(func() {
		vagrant("destroy", "--force")
		left, err := testmachine.Output(exec.Command("docker", "network", "ls", "--quiet", "--filter", "name=glustervol-vagrant"))
		if err != nil || left != "" {
			t.Errorf("Vagrant leaves Docker's network %s (%v)", left, err)
		}
	})
	vagrant("up")
	vagrant("ssh", "node1", "-c", "sudo docker volume create --driver glustervol web")
	for _, name := range []string{"node1", "node2", "node3"} {
		vagrant("ssh", name, "-c", "timeout 120 sh -c 'until sudo docker volume ls --quiet | grep -qx web; do sleep 0.1; done' || { sudo glustervol info; exit 1; }")
		contains(t, vagrant("ssh", name, "-c", "sudo docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.Managers}}'"), "active 3")
	}
	out := vagrant("provision")
	lacks(t, out, "changed:", "waiting")
	contains(t, out, "done: node1", "done: node2", "done: node3")
}
