package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/volume"
)

// reports are what is told of the stores, by the driver if it runs, since that is what
// containers depend on; else by connections of this process.
type reports struct {
	done    chan struct{}
	byStore map[string]volume.StoreReport
}

// startReports asks for them, and returns at once.
func (n *Node) startReports(ctx context.Context, limit time.Duration) *reports {
	r := &reports{done: make(chan struct{}), byStore: map[string]volume.StoreReport{}}
	go func() {
		defer close(r.done)
		if n.runs() && !n.StoresGiven {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			list, err := n.Driver.Reports(ctx)
			for _, one := range list {
				r.byStore[one.Address] = one
			}
			if err == nil || errors.Is(err, context.DeadlineExceeded) {
				return
			}
		}
		n.lookMyself(ctx, r)
	}()
	return r
}

func (n *Node) lookMyself(ctx context.Context, r *reports) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, s := range n.Stores {
		wg.Go(func() {
			one := n.Report(ctx, s)
			mu.Lock()
			defer mu.Unlock()
			r.byStore[one.Address] = one
		})
	}
	wg.Wait()
}

// of waits for the report of a store.
func (r *reports) of(address gluster.Address) func(context.Context) volume.StoreReport {
	return func(ctx context.Context) volume.StoreReport {
		none := volume.StoreReport{Address: address.String(), Trouble: "no answer in time", GraphTrouble: "no answer in time"}
		select {
		case <-r.done:
		default:
			select {
			case <-ctx.Done():
				return none
			case <-r.done:
			}
		}
		if one, found := r.byStore[none.Address]; found {
			return one
		}
		return none
	}
}

// storeChecks are the checks of one store.
func (n *Node) storeChecks(address gluster.Address, report func(context.Context) volume.StoreReport) []check {
	ofReport := func(name string, look func(volume.StoreReport) []Finding) check {
		return check{name: name, look: func(ctx context.Context) []Finding { return look(report(ctx)) }}
	}
	checks := []check{
		{name: "servers", look: func(ctx context.Context) []Finding { return n.checkServers(ctx, address) }},
		{name: "bricks", look: func(ctx context.Context) []Finding { return n.checkBricks(ctx, report(ctx)) }},
		ofReport("replication", checkReplication),
		ofReport("quorum", checkQuorum),
		ofReport("volume options", checkOptions),
		ofReport("tls", n.checkTLS),
		ofReport("store", checkStore),
		ofReport("space", checkSpace),
		ofReport("unfinished", func(r volume.StoreReport) []Finding { return checkUnfinished(r, n.runs() && !n.StoresGiven) }),
	}
	for i, c := range checks {
		checks[i].look = func(ctx context.Context) []Finding {
			found := c.look(ctx)
			for j := range found {
				found[j].Store = address.String()
			}
			return found
		}
	}
	return checks
}

// checkStore is about whether the store answers, and its format.
func checkStore(r volume.StoreReport) []Finding {
	switch {
	case r.Trouble != "":
		return one(failure("the lines on servers and bricks may say why", "%s", r.Trouble))
	case r.Format == 0:
		return one(ok("it answers; no driver has made a store of it yet, which the first one does"))
	}
	return one(ok("it answers, and has format %d", r.Format))
}

const (
	// scarce is from when on, in percent, free space is told of, and none when it is as
	// good as gone: bricks refuse to write from 1 % on (storage.reserve).
	scarce = 10
	none   = 2
)

// checkSpace is about bytes and inodes.
func checkSpace(r volume.StoreReport) []Finding {
	if r.Trouble != "" {
		return one(skipped("the store does not answer"))
	}
	found := one(rateSpace("space", r.Usage.Total, r.Usage.Free, func(n uint64) string { return units.BytesSize(float64(n)) }))
	if r.Usage.Inodes > 0 {
		found = append(found, rateSpace("inodes", r.Usage.Inodes, r.Usage.FreeInodes, func(n uint64) string { return fmt.Sprint(n) }))
	}
	return found
}

func rateSpace(what string, total, free uint64, text func(uint64) string) Finding {
	const advice = "'glustervol trash empty' frees what removed volumes hold; or give the bricks more"
	percent := free * 100 / max(total, 1)
	f := ok("%s of %s free (%d %%)", text(free), text(total), percent)
	switch {
	case percent < none:
		f = failure(advice, "%s", f.Text)
	case percent < scarce:
		f = warning(advice, "%s", f.Text)
	}
	f.Check = what
	return f
}

// checkUnfinished looks for operations that crashes have left and nobody settles. Only a
// driver knows for how long they have been there: no clock of another node is asked.
func checkUnfinished(r volume.StoreReport, driver bool) []Finding {
	if r.Trouble != "" {
		return one(skipped("the store does not answer"))
	}
	var old []string
	for _, l := range r.Leftovers {
		if time.Duration(l.Seconds)*time.Second > volume.SettledWithin {
			old = append(old, l.File)
		}
	}
	switch {
	case len(old) > 0:
		return one(warning("the driver's log says why it cannot settle them", "left by crashes, and not settled: %s", strings.Join(old, ", ")))
	case len(r.Leftovers) > 0 && !driver:
		return one(warning("start the driver, which settles within "+volume.SettledWithin.String()+" what a crash has left",
			"%d operations are under way or were left by crashes, such as %s", len(r.Leftovers), r.Leftovers[0].File))
	case len(r.Leftovers) > 0:
		return one(ok("%d operations are under way", len(r.Leftovers)))
	}
	return one(ok("no operation is under way, nor left by a crash"))
}
