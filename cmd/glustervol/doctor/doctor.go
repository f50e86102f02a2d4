// Package doctor looks at all that glustervol stands on, on this node and on its
// stores, and says what is wrong and what to do. It changes nothing. It is not for the
// driver itself, which tells of its own troubles in its log and by 'glustervol info'.
//
// A new check goes into the file of its subject: machine.go, tls.go, units.go,
// driver.go, docker.go, gluster.go or store.go; and into the list in Examine.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/plugin"
	"github.com/glustervol/glustervol/volume"
)

// Level is how bad a Finding is.
type Level string

// The levels, from what is well to the worst.
const (
	// OK is well.
	OK Level = "ok"
	// Skipped could not be looked at, which is no fault.
	Skipped Level = "skipped"
	// Warning works, and may hurt some day.
	Warning Level = "warning"
	// Failure does not work, or may lose data.
	Failure Level = "failure"
)

var levels = []Level{OK, Skipped, Warning, Failure}

// Finding is what a check has found: a line.
type Finding struct {
	Check string `json:"check"`
	// Store is what it is about, "" for the node.
	Store string `json:"store,omitempty"`
	Level Level  `json:"level"`
	Text  string `json:"text"`
	// Advice is what to do, "" if nothing.
	Advice string `json:"advice,omitempty"`
}

// Worst is the level of the worst of findings.
func Worst(findings []Finding) Level {
	worst := OK
	for _, f := range findings {
		if slices.Index(levels, f.Level) > slices.Index(levels, worst) {
			worst = f.Level
		}
	}
	return worst
}

// Driver is the running driver; plugin.AdminClient documents the methods.
type Driver interface {
	Info(ctx context.Context) (plugin.Info, error)
	Nodes(ctx context.Context) ([]volume.NodeInfo, error)
	Reports(ctx context.Context) ([]volume.StoreReport, error)
}

// Node is what is looked at. Its paths are fields for tests alone; those of a real node
// are in New.
type Node struct {
	// Version is this program's.
	Version string
	// Config is the driver's configuration, and ConfigErr why it does not start with that.
	Config    string
	ConfigErr error
	// Driver is asked first. What it says of its stores, directories and socket goes
	// before what is said here.
	Driver Driver
	// Stores are looked at if no driver runs; Report looks at one of them.
	Stores []gluster.Address
	Report func(context.Context, gluster.Address) volume.StoreReport
	// StoresGiven has the Stores looked at in any case.
	StoresGiven bool

	PluginSocket, DockerSocket string
	RunDir, LogDir             string
	// Glusterfs is the Gluster client program; LoadAPI loads libgfapi.
	Glusterfs string
	LoadAPI   func() error

	fuse         string
	glusterdInfo string
	secureAccess string
	// tlsDirs are where Gluster may look for its certificate: the directory of OpenSSL
	// depends on the distribution.
	tlsDirs   []string
	systemd   string
	systemctl string

	info    plugin.Info
	infoErr error
	reports []volume.StoreReport
}

// New returns this node. The caller fills in the exported fields.
func New() *Node {
	return &Node{
		LoadAPI:      gluster.LoadAPI,
		fuse:         "/dev/fuse",
		glusterdInfo: "/var/lib/glusterd/glusterd.info",
		secureAccess: "/var/lib/glusterd/secure-access",
		tlsDirs:      []string{"/usr/lib/ssl", "/etc/ssl", "/etc/pki/tls"},
		systemd:      "/run/systemd/system",
		systemctl:    "systemctl",
	}
}

const (
	// patience is how long a check may take, and grace how much longer one that heeds it.
	patience = 10 * time.Second
	grace    = time.Second
	// infoPatience is how long the driver may take to tell of itself, which it does from
	// memory.
	infoPatience = 5 * time.Second
)

// check is one thing to look at.
type check struct {
	name string
	// look tells what is found, one line at least.
	look func(context.Context) []Finding
	// patience is that of the package if it is 0.
	patience time.Duration
}

// Examine looks at everything, and takes half a minute at most, whatever hangs.
func (n *Node) Examine(ctx context.Context) []Finding {
	n.meetDriver(ctx)
	storePatience := volume.ReportTime + grace
	reports := n.startReports(ctx, storePatience)
	checks := []check{
		{name: "fuse", look: n.checkFUSE},
		{name: "client program", look: n.checkProgram},
		{name: "gluster versions", look: n.checkVersions},
		{name: "libgfapi", look: n.checkLibrary},
		{name: "configuration", look: n.checkConfiguration},
		{name: "units", look: n.checkUnits},
		{name: "driver", look: n.checkDriver},
		{name: "gluster clients", look: n.checkClients},
		{name: "mounts", look: n.checkMounts},
		{name: "logs", look: n.checkLogs},
		{name: "plugin socket", look: n.checkPluginSocket},
		{name: "docker", look: n.checkDocker},
		{name: "containers", look: n.checkContainers},
		{name: "nodes", look: n.checkNodes},
	}
	for _, s := range n.Stores {
		for _, one := range n.storeChecks(s, reports.of(s)) {
			one.patience = storePatience + patience
			checks = append(checks, one)
		}
	}
	if len(n.Stores) == 0 {
		checks = append(checks, check{name: "stores", look: noStores})
	}
	found := runAll(ctx, checks)
	for _, s := range n.Stores {
		over, cancel := context.WithCancel(ctx)
		cancel() // what is not there by now was waited for long enough
		n.reports = append(n.reports, reports.of(s)(over))
	}
	return found
}

// Reports is what Examine has seen of the stores.
func (n *Node) Reports() []volume.StoreReport { return n.reports }

func noStores(context.Context) []Finding {
	return []Finding{{Level: Failure, Text: "no store is configured", Advice: "say 'glustervol init', or name one: 'glustervol doctor gfs1,gfs2,gfs3:/gv0'"}}
}

// runAll runs all checks at once and returns their findings in the checks' order.
func runAll(ctx context.Context, checks []check) (all []Finding) {
	found := make([][]Finding, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { found[i] = c.run(ctx) })
	}
	wg.Wait()
	return slices.Concat(found...)
}

// run has a check that hangs be a finding, too.
func (c check) run(ctx context.Context) []Finding {
	limit := cmp.Or(c.patience, patience)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan []Finding, 1)
	go func() { done <- c.look(ctx) }()
	select {
	case found := <-done:
		for i := range found {
			if found[i].Check == "" {
				found[i].Check = c.name
			}
		}
		return found
	case <-time.After(limit + grace):
		return []Finding{{Check: c.name, Level: Failure, Text: fmt.Sprintf("no answer within %s", limit), Advice: "something hangs; the other lines may say what"}}
	}
}

// meetDriver asks the driver for what it serves and where.
func (n *Node) meetDriver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, infoPatience)
	defer cancel()
	if n.info, n.infoErr = n.Driver.Info(ctx); n.infoErr != nil {
		return
	}
	n.PluginSocket = n.info.Socket
	n.RunDir, n.LogDir = cmp.Or(n.info.RunDir, n.RunDir), cmp.Or(n.info.LogDir, n.LogDir) // an older driver tells neither
	if n.StoresGiven {
		return
	}
	n.Stores = nil
	for _, s := range n.info.Stores {
		if address, err := gluster.ParseAddress(s.Address); err == nil {
			n.Stores = append(n.Stores, address)
		}
	}
}

// runs tells whether the driver runs and answers.
func (n *Node) runs() bool { return n.infoErr == nil }

// managed tells whether the driver is a managed plugin, which brings its own Gluster
// client.
func (n *Node) managed() bool { return n.runs() && n.info.Managed() }

func ok(format string, args ...any) Finding {
	return Finding{Level: OK, Text: fmt.Sprintf(format, args...)}
}

func skipped(format string, args ...any) Finding {
	return Finding{Level: Skipped, Text: fmt.Sprintf(format, args...)}
}

func warning(advice, format string, args ...any) Finding {
	return Finding{Level: Warning, Text: fmt.Sprintf(format, args...), Advice: advice}
}

func failure(advice, format string, args ...any) Finding {
	return Finding{Level: Failure, Text: fmt.Sprintf(format, args...), Advice: advice}
}

func one(f Finding) []Finding { return []Finding{f} }
