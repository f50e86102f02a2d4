package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// NodeInfo is a node of a store, as this node sees it.
type NodeInfo struct {
	Node  string `json:"node"`
	Store string `json:"store"`
	// State is "this node", "alive", "silent", or "stopped" when it has told that
	// its driver stops.
	State string `json:"state"`
	// Silence is for how long it has not been heard of, in seconds, by this
	// node's clock and since this node's driver has started.
	Silence int `json:"silence"`
	// Volumes is how many volumes it uses.
	Volumes int `json:"volumes"`
}

// Nodes describes the nodes of all stores, those that were forgotten left out.
// Stores that do not answer are told of by the error, with the others' nodes.
func (m *Manager) Nodes(ctx context.Context) ([]NodeInfo, error) {
	list := []NodeInfo{}
	var errs []error
	for _, s := range m.stores {
		nodes, err := s.nodes(ctx)
		list = append(list, nodes...)
		errs = append(errs, err)
	}
	return list, errors.Join(errs...)
}

func (s *store) nodes(ctx context.Context) ([]NodeInfo, error) {
	cat, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	members, err := cat.members.all(ctx)
	if err != nil {
		return nil, s.failed(err)
	}
	own, _ := cat.members.joined()
	list := []NodeInfo{}
	for _, one := range members {
		if one, err = cat.members.read(ctx, one.number); errors.Is(err, ErrDamaged) {
			one.Node = fmt.Sprintf("(number %d, damaged)", one.number)
		} else if err != nil {
			return nil, s.failed(err)
		}
		if one.Forgotten {
			continue
		}
		info := NodeInfo{Node: one.Node, Store: s.address.String()}
		info.State, info.Silence = s.stateOf(one.number, own)
		used, err := cat.referencesOf(ctx, one.number)
		if err != nil {
			return nil, s.failed(err)
		}
		info.Volumes = len(used)
		list = append(list, info)
	}
	return list, nil
}

func (s *store) stateOf(number, own int) (state string, silence int) {
	quiet, stopped := s.pulse.unheard(number)
	switch {
	case number == own:
		return "this node", 0
	case stopped:
		return "stopped", int(quiet.Seconds())
	case quiet >= aliveTime:
		return "silent", int(quiet.Seconds())
	}
	return "alive", int(quiet.Seconds())
}

// Forget has the references of a node that is gone for good not count any more,
// on all stores. A node that may be alive is refused.
func (m *Manager) Forget(ctx context.Context, node string) error {
	if err := CheckName(node); err != nil {
		return fmt.Errorf("forget node: %w", err)
	}
	if node == m.config.Node.ID {
		return fmt.Errorf("forget node %s: it is this one", node)
	}
	found := false
	for _, s := range m.stores {
		forgotten, err := s.forgetNode(ctx, node)
		if err != nil {
			return fmt.Errorf("forget node %s on %s: %w", node, s.address, err)
		}
		found = found || forgotten
	}
	if !found {
		return fmt.Errorf("forget node %s: there is no such node; 'glustervol node ls' lists them", node)
	}
	m.config.Log.Warn("node forgotten: what it uses may be removed", "node", node)
	return nil
}

func (s *store) forgetNode(ctx context.Context, node string) (found bool, err error) {
	cat, err := s.connect(ctx)
	if err != nil {
		return false, err
	}
	members, err := cat.members.all(ctx)
	if err != nil {
		return false, s.failed(err)
	}
	for _, one := range members {
		if one.Node != node || one.Forgotten {
			continue
		}
		if quiet, stopped := s.pulse.unheard(one.number); !stopped && quiet < forgetPatience {
			return false, fmt.Errorf("it was heard of %s ago, or this node has not listened for longer; a node can be forgotten when its driver was stopped, or %s after it was heard of last",
				quiet.Round(time.Second), forgetPatience)
		}
		if err := cat.members.forget(ctx, one.number); err != nil {
			return false, s.failed(err)
		}
		// Nobody looks there any more.
		if err := cat.fs.RemoveTree(ctx, memberDir(one.number), nil); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("what a forgotten node has said stays on the store", "node", node, "err", err)
		}
		found = true
	}
	return found, nil
}
