package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/glustervol/glustervol/hack/testnode"
)

// composeFile uses a volume with options in a service.
const composeFile = `
version: "3.7"
services:
  web:
    image: ` + testnode.Image + `
    network_mode: none
    command: sh -c 'echo from compose > /data/f; sleep 1000000'
    stop_grace_period: 0s
    volumes:
      - data:/data
volumes:
  data:
    driver: glustervol
    driver_opts:
      uid: "999"
      mode: "0750"
`

func TestCompose(t *testing.T) {
	gv, _ := startNode(t)
	dir := filepath.Join(t.TempDir(), "shop") // Compose names volumes by it
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "docker-compose.yml"), []byte(strings.Replace(composeFile, "driver: glustervol", "driver: "+driverName(), 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	compose := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "docker-compose", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("docker-compose %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}

	compose("up", "--detach")
	awaitFile(t, onBrick(gv, "volumes/shop_data/f"), "from compose\n")
	if v := inspect(t, "shop_data"); len(v.Users) != 1 || *v.Options.UID != 999 || v.Options.Mode != "0750" {
		t.Errorf("%+v", v)
	}
	compose("down")
	expectUnused(t, "shop_data")
	compose("up", "--detach") // finds the volume there
	compose("down", "--volumes")
	if got := cli(t, "ls"); strings.Contains(got, "shop_data") {
		t.Error(got)
	}
}

func TestSwarmService(t *testing.T) {
	gv, _ := startNode(t)
	docker(t, "swarm", "init", "--advertise-addr="+testnode.Address)
	t.Cleanup(func() { docker(t, "swarm", "leave", "--force") })
	docker(t, "service", "create", "--detach", "--no-resolve-image", "--name=web", "--stop-grace-period=0s",
		"--mount=type=volume,src={{.Service.Name}}-data,dst=/data,volume-driver=glustervol,volume-opt=uid=999",
		testnode.Image, "sh", "-c", "echo from the task > /data/f; sleep 1000000")
	awaitFile(t, onBrick(gv, "volumes/web-data/f"), "from the task\n")
	if v := inspect(t, "web-data"); len(v.Users) != 1 || *v.Options.UID != 999 {
		t.Errorf("%+v", v)
	}
	docker(t, "service", "rm", "web")
	expectUnused(t, "web-data")
}

// awaitFile waits until a file has a content.
func awaitFile(t testing.TB, path, content string) {
	t.Helper()
	testnode.Eventually(t, path+" is written", func() bool {
		got, err := os.ReadFile(path)
		return err == nil && string(got) == content
	})
}
