package main

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// operations are how many of each kind a brick has carried out, as Gluster's profile
// counts them.
type operations map[string]float64

func (o operations) sum() (total float64) {
	for _, count := range o {
		total += count
	}
	return total
}

// String lists them, the most frequent first.
func (o operations) String() string {
	kinds := slices.SortedFunc(maps.Keys(o), func(a, b string) int { return cmp.Or(cmp.Compare(o[b], o[a]), cmp.Compare(a, b)) })
	var list []string
	for _, kind := range kinds {
		list = append(list, fmt.Sprintf("%s %.1f", strings.ToLower(kind), o[kind]))
	}
	return strings.Join(list, ", ")
}

// startCounting has the bricks count what they carry out from now on.
func (n *node) startCounting(ctx context.Context) error {
	if err := n.run(ctx, "gluster", "volume", "profile", "gv0", "start"); err != nil && !strings.Contains(err.Error(), "already") {
		return err
	}
	_, err := n.counted(ctx)
	return err
}

// stopCounting ends it: it costs the bricks time.
func (n *node) stopCounting(ctx context.Context) error {
	return n.run(ctx, "gluster", "volume", "profile", "gv0", "stop")
}

// counted is what the busiest brick has carried out since the last call, but for
// what nobody has asked for.
func (n *node) counted(ctx context.Context) (operations, error) {
	out, err := n.output(ctx, "gluster", "--xml", "volume", "profile", "gv0", "info", "incremental")
	if err != nil {
		return nil, err
	}
	var profile struct {
		Bricks []struct {
			Operations []struct {
				Name string  `xml:"name"`
				Hits float64 `xml:"hits"`
			} `xml:"intervalStats>fopStats>fop"`
		} `xml:"volProfile>brick"`
	}
	if err := xml.Unmarshal([]byte(out), &profile); err != nil {
		return nil, err
	}
	busiest := operations{}
	for _, brick := range profile.Bricks {
		counts := operations{}
		for _, one := range brick.Operations {
			if !slices.Contains([]string{"FORGET", "RELEASE", "RELEASEDIR"}, one.Name) {
				counts[one.Name] += one.Hits
			}
		}
		if counts.sum() > busiest.sum() {
			busiest = counts
		}
	}
	return busiest, nil
}

// settleTime is what the other nodes take to read what is new.
const settleTime = 3 * time.Second

// onTheWire counts what each of the calls, and what it is compared with, has a brick do.
func onTheWire(ctx context.Context, b *bench, n *node, hand string) error {
	var names []string
	for i := range min(b.rounds, 50) {
		names = append(names, fmt.Sprint("wire", i))
	}
	var t callTimes
	for i, step := range t.steps(ctx, n, hand, "") {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settleTime):
		}
		err := b.count(ctx, n, step.what, len(names), func() error {
			for _, name := range names {
				if err := t.steps(ctx, n, hand, name)[i].do(); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := os.RemoveAll(filepath.Join(hand, name+"-moved")); err != nil {
			return err
		}
	}
	return nil
}

// count adds to the report what each of several things that do does has a brick do.
func (b *bench) count(ctx context.Context, n *node, what string, things int, do func() error) error {
	if err := n.startCounting(ctx); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	done, err := n.counted(ctx)
	if err != nil {
		return err
	}
	for kind := range done {
		done[kind] /= float64(things)
	}
	b.report.Wire = append(b.report.Wire, wire{what, done.sum(), done})
	return n.stopCounting(ctx)
}

// lookersPerNode look names up at the same time.
const lookersPerNode = 8

// capacity measures how many look-ups a brick can take, with what else the same machine
// has to do for them.
func capacity(ctx context.Context, b *bench) error {
	window := 10 * time.Second
	if b.quick {
		window = time.Second
	}
	var hands []string
	for _, n := range b.cluster.nodes {
		hand, err := n.byHand(ctx, "/run/hand")
		if err != nil {
			return err
		}
		hands = append(hands, slices.Repeat([]string{hand}, lookersPerNode)...)
	}
	n := b.cluster.nodes[0]
	if err := n.startCounting(ctx); err != nil {
		return err
	}
	end := time.Now().Add(window)
	err := atOnce(len(hands), hands, func(hand string) error {
		for i := 0; time.Now().Before(end) && ctx.Err() == nil; i++ {
			// What is not there, no client remembers.
			if _, err := os.Lstat(filepath.Join(hand, fmt.Sprint("absent", i))); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("a look-up of what is not there: %w", err)
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	done, err := n.counted(ctx)
	b.report.Capacity = done["LOOKUP"] / window.Seconds()
	for _, n := range b.cluster.nodes {
		err = errors.Join(err, n.run(ctx, "umount", "/run/hand"))
	}
	return err
}
