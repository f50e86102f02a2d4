package volume

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/glustervol/glustervol/gluster"
)

// StoreReport is what a store tells who looks for trouble ('glustervol doctor').
type StoreReport struct {
	Address string `json:"address"`
	// Trouble is why its files could not be read, or "". Then what follows, down to
	// Leftovers, is not known.
	Trouble string `json:"trouble,omitempty"`
	// Format is the version of its layout, 0 if no driver has made a store of it yet.
	Format int           `json:"format"`
	Usage  gluster.Usage `json:"usage"`
	// Leftovers are operations that are under way, or were left by crashes.
	Leftovers []Leftover `json:"leftovers,omitempty"`
	// Graph is how its Gluster volume is reached; GraphTrouble is why that is not known.
	Graph        gluster.Graph `json:"graph,omitempty"`
	GraphTrouble string        `json:"graph-trouble,omitempty"`
}

// Leftover is a file that is on a store only while an operation is under way.
type Leftover struct {
	File string `json:"file"`
	// Seconds is for how long this driver has seen it unchanged, 0 if it has not
	// looked before.
	Seconds int `json:"seconds"`
}

// SettledWithin is how long a driver takes at most to settle what a crash has left.
const SettledWithin = settlePatience + time.Minute

const (
	// reportTime bounds the look at a store's files, and graphTime that at its graph, which
	// asks no brick. Whoever waits for both has their sum, ReportTime.
	reportTime = 8 * time.Second
	graphTime  = 3 * time.Second
	// ReportTime is how long a StoreReport takes at most.
	ReportTime = reportTime + graphTime
)

// Reports looks at all stores, the default first.
func (m *Manager) Reports(ctx context.Context) []StoreReport {
	reports := make([]StoreReport, len(m.stores))
	var wg sync.WaitGroup
	for i, s := range m.stores {
		wg.Go(func() { reports[i] = newReport(ctx, s.address, m.config.Control, s.connect) })
	}
	wg.Wait()
	return reports
}

// Report looks at a store on which no driver of this node runs, and changes nothing there.
func Report(ctx context.Context, control Control, address gluster.Address) StoreReport {
	var plane ControlPlane
	report := newReport(ctx, address, control, func(ctx context.Context) (_ *catalog, err error) {
		if plane, err = control.Open(ctx, address); err != nil {
			return nil, err
		}
		return newCatalog(plane, Node{}), nil
	})
	if plane != nil {
		_ = plane.Close() // it has told what it had to
	}
	return report
}

// TryStore opens a store as a driver does when it starts, and so makes one of a directory
// that is none yet; but this node does not join it.
func TryStore(ctx context.Context, control Control, address gluster.Address) error {
	plane, err := control.Open(ctx, address)
	if err != nil {
		return err
	}
	return errors.Join(explainStore(newCatalog(plane, Node{}).open(ctx), address), plane.Close())
}

func newReport(ctx context.Context, address gluster.Address, control Control, open func(context.Context) (*catalog, error)) StoreReport {
	r := StoreReport{Address: address.String()}
	if err := r.readFiles(ctx, address, open); err != nil {
		r.Trouble = err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, graphTime)
	defer cancel()
	var err error
	if r.Graph, err = control.Graph(ctx, address); err != nil {
		r.GraphTrouble = err.Error()
	}
	return r
}

func (r *StoreReport) readFiles(ctx context.Context, address gluster.Address, open func(context.Context) (*catalog, error)) error {
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	cat, err := open(ctx)
	if err != nil {
		return err // which says what to do
	}
	return explainStore(r.readCatalog(ctx, cat), address)
}

func (r *StoreReport) readCatalog(ctx context.Context, cat *catalog) (err error) {
	if r.Usage, err = cat.fs.Usage(ctx, "."); err != nil {
		return err
	}
	err = cat.checkFormat(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	r.Format = formatVersion
	r.Leftovers, err = cat.unsettled(ctx)
	return err
}

// unsettled are the leftovers that say that something is under way: an entry of the trash
// is one only now and then.
func (c *catalog) unsettled(ctx context.Context) (list []Leftover, err error) {
	files, err := c.leftovers(ctx)
	if err != nil {
		return nil, err
	}
	for file := range files {
		if path.Dir(file) != trashDir || strings.HasSuffix(file, restoringSuffix) {
			list = append(list, Leftover{File: file, Seconds: int(c.seenFor(file).Seconds())})
		}
	}
	slices.SortFunc(list, func(a, b Leftover) int { return strings.Compare(a.File, b.File) })
	return list, nil
}

// seenFor is for how long a file was seen as it is.
func (c *catalog) seenFor(file string) (longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, first := range c.seen {
		if of, _, _ := strings.Cut(key, "\x00"); of == file {
			longest = max(longest, time.Since(first))
		}
	}
	return longest
}
