package doctor

import (
	"context"
	"errors"
	"testing"

	"github.com/glustervol/glustervol/mount"
	"github.com/glustervol/glustervol/volume"
)

func TestDriver(t *testing.T) {
	n, _ := running(t)
	expect(t, n.checkDriver(t.Context()), OK, "version 1", "process 7")
	n.Version = "2"
	expect(t, n.checkDriver(t.Context()), Warning, "it is version 1, and this program 2", "systemctl restart glustervol")
	n.infoErr = context.DeadlineExceeded
	expect(t, n.checkDriver(t.Context()), Failure, "does not answer", "journalctl")
	expect(t, alone(t).checkDriver(t.Context()), Failure, errNotThere.Error())
}

func TestConfiguration(t *testing.T) {
	n := alone(t)
	n.Config = "/nonexistent/glustervol"
	expect(t, n.checkConfiguration(t.Context()), Skipped, n.Config, "glustervol init")
	n.Config = write(t, "glustervol", "")
	expect(t, n.checkConfiguration(t.Context()), OK, n.Config)
	n.ConfigErr = errors.New("line 3 is nonsense")
	expect(t, n.checkConfiguration(t.Context()), Failure, "line 3 is nonsense", "glustervol init")
	expect(t, managed(t).checkConfiguration(t.Context()), Skipped, "docker plugin inspect")
}

func TestClients(t *testing.T) {
	n, _ := running(t)
	n.info.Clients = nil
	expect(t, n.checkClients(t.Context()), OK, "none runs")
	n.info.Clients = []mount.Status{{Key: "a", Health: "alive"}}
	expect(t, n.checkClients(t.Context()), OK, "1, all alive")
	n.info.Clients = append(n.info.Clients, mount.Status{Key: "b", Health: "dead", LogFile: "/var/log/glustervol/b.log"})
	expect(t, n.checkClients(t.Context()), Failure, "client b", "dead", "/var/log/glustervol/b.log")
	expect(t, alone(t).checkClients(t.Context()), Skipped)
}

func TestContainers(t *testing.T) {
	n, _ := running(t)
	expect(t, n.checkContainers(t.Context()), OK)
	n.info.Docker = "NOT reached: it is gone"
	expect(t, n.checkContainers(t.Context()), Warning, "NOT reached", "--docker-socket")
	expect(t, alone(t).checkContainers(t.Context()), Skipped)
}

func TestNodes(t *testing.T) {
	n, driver := running(t)
	driver.nodes = []volume.NodeInfo{
		{Node: "here", State: "this node", Volumes: 3},
		{Node: "there", State: "alive", Volumes: 3},
		{Node: "empty", State: "silent", Silence: 9999},
		{Node: "upgraded", State: "stopped", Silence: 60, Volumes: 1},
	}
	expect(t, n.checkNodes(t.Context()), OK, "4")
	driver.nodes = append(driver.nodes, volume.NodeInfo{Node: "gone", State: "silent", Silence: 3600, Volumes: 2, Store: "gfs1:/gv0"})
	expect(t, n.checkNodes(t.Context()), Warning, "gone is silent", "1h0m0s", "2 volumes of gfs1:/gv0", "glustervol node forget gone")
	driver.nodes[4].State = "stopped"
	expect(t, n.checkNodes(t.Context()), Warning, "gone is stopped")
	driver.nodes, driver.err = nil, errors.New("gfs1:/gv0 does not answer")
	expect(t, n.checkNodes(t.Context()), Failure, "gfs1:/gv0 does not answer")
	expect(t, alone(t).checkNodes(t.Context()), Skipped)
}
