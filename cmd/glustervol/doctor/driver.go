package doctor

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/glustervol/glustervol/volume"
)

// checkConfiguration is about what systemd starts the driver with.
func (n *Node) checkConfiguration(context.Context) []Finding {
	_, err := os.Stat(n.Config)
	switch {
	case n.ConfigErr != nil:
		return one(failure("correct it, or say 'glustervol init'", "the driver does not start with it: %v", n.ConfigErr))
	case n.managed():
		return one(skipped("'docker plugin inspect' has the managed plugin's"))
	case err != nil:
		return one(skipped("there is no %s; 'glustervol init' writes it", n.Config))
	}
	return one(ok("%s can be read", n.Config))
}

// checkDriver is about the driver's process.
func (n *Node) checkDriver(context.Context) []Finding {
	switch {
	case errors.Is(n.infoErr, context.DeadlineExceeded):
		return one(failure("'journalctl -u glustervol' may say why; 'systemctl restart glustervol' leaves containers alone", "it does not answer within %s", infoPatience))
	case n.infoErr != nil:
		return one(failure("", "%v", n.infoErr))
	case n.info.Version != n.Version:
		return one(warning("restart the driver after an upgrade ('systemctl restart glustervol'; containers notice nothing)",
			"it is version %s, and this program %s", n.info.Version, n.Version))
	}
	return one(ok("version %s runs as process %d, node %s", n.info.Version, n.info.PID, n.info.Node.ID))
}

// checkClients is about the Gluster clients that containers use.
func (n *Node) checkClients(context.Context) []Finding {
	if !n.runs() {
		return one(skipped("only a running driver knows them"))
	}
	var found []Finding
	for _, c := range n.info.Clients {
		if c.Health != "alive" {
			found = append(found, failure("the driver starts another at once; if this line stays, see "+c.LogFile, "client %s of %s is %s", c.Key, c.Source, c.Health))
		}
	}
	switch {
	case len(n.info.Clients) == 0:
		return one(ok("none runs: nothing is mounted"))
	case len(found) == 0:
		return one(ok("%d, all alive", len(n.info.Clients)))
	}
	return found
}

// checkContainers is about whether other nodes are told of containers that are stopped.
func (n *Node) checkContainers(context.Context) []Finding {
	if !n.runs() {
		return one(skipped("only a running driver watches them"))
	}
	if n.info.Docker != "its containers are known" { // plugin.Engine.State
		return one(warning("see --docker-socket in 'glustervol serve --help'; without Docker's API, another node can remove a volume that a stopped container here has",
			"dockerd: %s", n.info.Docker))
	}
	return one(ok("the driver knows dockerd's, and tells the other nodes which volumes they have"))
}

// forgettable is how long a node that has told that it stops may use volumes until that is
// told of: an upgrade of the driver is no trouble.
const forgettable = 3 * time.Minute

// checkNodes looks for nodes whose volumes cannot be removed since nobody hears of them.
func (n *Node) checkNodes(ctx context.Context) []Finding {
	if !n.runs() {
		return one(skipped("only a running driver listens to the other nodes"))
	}
	nodes, err := n.Driver.Nodes(ctx)
	var found []Finding
	for _, node := range nodes {
		silence := time.Duration(node.Silence) * time.Second
		if node.Volumes > 0 && (node.State == "silent" || node.State == "stopped" && silence > forgettable) {
			found = append(found, warning("bring it back, or, if it is gone for good, 'glustervol node forget "+node.Node+"'",
				"%s is %s, was not heard of for %s, and uses %d volumes of %s, which cannot be removed", node.Node, node.State, silence, node.Volumes, node.Store))
		}
	}
	if err != nil {
		found = append(found, failure("", "%v", err))
	}
	if len(found) == 0 {
		found = one(ok("%d, none that is silent uses volumes", len(distinct(nodes))))
	}
	return found
}

func distinct(nodes []volume.NodeInfo) map[string]bool {
	names := map[string]bool{}
	for _, node := range nodes {
		names[node.Node] = true
	}
	return names
}
