package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/glustervol/glustervol/plugin"
)

// script is hack/cluster; bench is run in the project's directory.
const script = "hack/cluster"

// cluster is a running hack/cluster.
type cluster struct {
	state string
	// bricks are the nodes that have one, and store is what the drivers serve.
	bricks []string
	store  string
	nodes  []*node
}

// node is one of its nodes. Its files are reached from outside, by its root directory.
type node struct {
	cluster *cluster
	name    string
	root    string
	driver  *http.Client
	admin   *plugin.AdminClient
}

func startCluster(ctx context.Context, state string, bricks ...string) (*cluster, error) {
	if err := os.MkdirAll(state, 0o755); err != nil {
		return nil, err
	}
	c := &cluster{state: state, bricks: bricks, store: strings.Join(bricks, ",") + ":/gv0"}
	if err := c.run(ctx, "up", "node1", "node2", "node3"); err != nil {
		return nil, errors.Join(err, c.down())
	}
	for _, name := range []string{"node1", "node2", "node3"} {
		n := &node{cluster: c, name: name}
		if err := n.find(ctx); err != nil {
			return nil, errors.Join(err, c.down())
		}
		c.nodes = append(c.nodes, n)
	}
	return c, nil
}

func (c *cluster) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, script, args...)
	cmd.Env = append(os.Environ(), "GLUSTERVOL_CLUSTER="+c.state, "GLUSTERVOL_BRICKS="+strings.Join(c.bricks, " "))
	return cmd
}

func (c *cluster) run(ctx context.Context, args ...string) error {
	if out, err := c.command(ctx, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", script, strings.Join(args, " "), err, out)
	}
	return nil
}

func (c *cluster) down() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	err := c.run(ctx, "down")
	_ = os.Remove(c.state)
	_ = os.Remove(filepath.Dir(c.state))
	return err
}

// find finds the node's root directory, by the process 1 of its namespaces.
func (n *node) find(ctx context.Context) error {
	pid, err := exec.CommandContext(ctx, "pgrep", "--oldest", "--full", "--exact", "bash .*/cluster _node "+n.name+" "+n.cluster.state).Output()
	if err != nil {
		return fmt.Errorf("%s: no process 1: %w", n.name, err)
	}
	n.root = "/proc/" + strings.TrimSpace(string(pid)) + "/root"
	n.driver = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", n.path("/run/docker/plugins/glustervol.sock"))
	}}}
	n.admin = plugin.NewAdminClient(n.path("/run/glustervol/admin.sock"))
	return nil
}

// path is a path of the node as this process reaches it.
func (n *node) path(p string) string { return n.root + p }

// output runs a command on the node.
func (n *node) output(ctx context.Context, args ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := n.cluster.command(ctx, append([]string{"exec", n.name}, args...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", n.name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), err
}

func (n *node) run(ctx context.Context, args ...string) error {
	_, err := n.output(ctx, args...)
	return err
}

// request is of all calls of Docker's volume plugin protocol.
type request struct {
	Name string
	ID   string            `json:",omitempty"`
	Opts map[string]string `json:",omitempty"`
}

// answer is to all of them.
type answer struct {
	Mountpoint string
	Volumes    []struct{ Name string }
	Err        string
}

// call asks the node's driver as dockerd does.
func (n *node) call(ctx context.Context, method string, r request) (answer, error) {
	data, err := n.ask(ctx, method, r)
	if err != nil {
		return answer{}, err
	}
	var a answer
	if err := json.Unmarshal(data, &a); err != nil {
		return answer{}, err
	}
	if a.Err != "" {
		return answer{}, fmt.Errorf("%s %s: %s", method, r.Name, a.Err)
	}
	return a, nil
}

// ask is call for who reads the answer later: to decode thousands of volumes takes time itself.
func (n *node) ask(ctx context.Context, method string, r request) ([]byte, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://driver/VolumeDriver."+method, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	response, err := n.driver.Do(req)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

// create makes volumes, some at once.
func (n *node) create(ctx context.Context, names []string) error {
	return atOnce(16, names, func(name string) error {
		_, err := n.call(ctx, "Create", request{Name: name})
		return err
	})
}

// byHand mounts the store's Gluster volume as a person would, and tells where.
func (n *node) byHand(ctx context.Context, dir string) (string, error) {
	err := n.run(ctx, "sh", "-c", "mkdir -p "+dir+" && mount -t glusterfs "+n.cluster.store+" "+dir)
	return n.path(dir), err
}

// atOnce does something for all of a list, with several workers.
func atOnce[T any](workers int, list []T, do func(T) error) error {
	var group errgroup.Group
	group.SetLimit(workers)
	for _, one := range list {
		group.Go(func() error { return do(one) })
	}
	return group.Wait()
}
