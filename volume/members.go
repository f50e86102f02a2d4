package volume

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"sync"

	"github.com/glustervol/glustervol/gluster"
)

// The nodes of a store are numbered in the order in which they joined:
//
//	.glustervol/nodes/N.json        which node has number N; no number is given twice
//	.glustervol/nodes/N/            what that node says, and nobody else writes:
//	.glustervol/nodes/N/alive.json  it is alive (heartbeat.go)
//	.glustervol/nodes/N/ID.json     it uses the volume with this id (references.go)
//
// A listing can lack names while bricks are down. So who must not miss a node
// looks the numbers up, from 0 until there is none: a look-up finds the file, or
// says for certain that there is none, or fails.
const nodesDir = controlDir + "/nodes"

func memberFile(number int) string { return memberDir(number) + recordSuffix }
func memberDir(number int) string  { return path.Join(nodesDir, strconv.Itoa(number)) }

// member is a node of a store.
type member struct {
	// Node is its id, "" if its file is damaged.
	Node string `json:"node"`
	// Forgotten tells that a person has said that it is gone for good: its
	// references do not count any more. Should it come back, it joins anew.
	Forgotten bool `json:"forgotten,omitempty"`

	number int
	// inode is that of the member's file. While that is the same, so is the rest.
	inode uint64
}

// members are the nodes of one store.
type members struct {
	fs   gluster.FS
	node string

	mu sync.Mutex
	// known are those that were read, by number. Who was forgotten stays so; that
	// somebody is forgotten since may be missed, which does no harm: their
	// references count once more.
	known map[int]member
	// own is this node's number, -1 before it has joined.
	own int
}

func newMembers(store gluster.FS, node string) *members {
	return &members{fs: store, node: node, known: map[int]member{}, own: -1}
}

// errForgotten says that this node has to join anew.
var errForgotten = errors.New("this node was forgotten by 'glustervol node forget'")

// maxMembers is the largest number of nodes that a store may have had; who
// writes more files there wants to keep others busy.
const maxMembers = 10000

// all returns all members that have joined before the call, sorted by number,
// those that were forgotten included.
func (m *members) all(ctx context.Context) ([]member, error) {
	list := []member{}
	for number := range maxMembers {
		one, err := m.get(ctx, number)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return list, nil
		case errors.Is(err, ErrDamaged):
			// It may have been killed while it joined, and then uses nothing; if
			// not, what it uses is found by its number.
			list = append(list, member{number: number})
		case err != nil:
			return nil, err
		default:
			list = append(list, one)
		}
	}
	return nil, fmt.Errorf("%w: %s has more than %d nodes", ErrDamaged, nodesDir, maxMembers)
}

// list are those that were read, sorted by number.
func (m *members) list() []member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.known), func(a, b member) int { return cmp.Compare(a.number, b.number) })
}

// get returns a member, from memory if it was read before.
func (m *members) get(ctx context.Context, number int) (member, error) {
	m.mu.Lock()
	one, known := m.known[number]
	m.mu.Unlock()
	if known {
		return one, nil
	}
	return m.read(ctx, number)
}

// read returns a member as the store has it.
func (m *members) read(ctx context.Context, number int) (member, error) {
	info, err := m.fs.Lstat(ctx, memberFile(number)) // first: an older inode number is no harm
	if err != nil {
		return member{}, err
	}
	data, err := m.fs.ReadFile(ctx, memberFile(number))
	if err != nil && !errors.Is(err, fs.ErrInvalid) {
		return member{}, err
	}
	var one member
	if json.Unmarshal(data, &one) != nil || CheckName(one.Node) != nil {
		return member{}, fmt.Errorf("%w: %s does not name a node", ErrDamaged, memberFile(number))
	}
	one.number, one.inode = number, info.Inode
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[number] = one
	return one, nil
}

// join makes this node a member, if it is none, and returns its number. The
// node counts for others as soon as this has returned, and not before.
func (m *members) join(ctx context.Context) (int, error) {
	if number, joined := m.joined(); joined {
		return number, nil
	}
	list, err := m.all(ctx)
	if err != nil {
		return -1, err
	}
	for _, one := range slices.Backward(list) {
		if one.Node != m.node || one.Forgotten {
			continue
		}
		// Read anew, since it may be forgotten by now.
		if one, err = m.read(ctx, one.number); err != nil || !one.Forgotten {
			return m.take(ctx, one, err)
		}
	}
	next := 0
	if len(list) > 0 {
		next = list[len(list)-1].number + 1
	}
	for {
		one, err := m.claim(ctx, next)
		if !errors.Is(err, fs.ErrExist) {
			return m.take(ctx, one, err)
		}
		next++ // somebody else has it
	}
}

// claim takes a free number, with fs.ErrExist if it is not free.
func (m *members) claim(ctx context.Context, number int) (member, error) {
	data, err := json.Marshal(member{Node: m.node})
	if err != nil {
		return member{}, err
	}
	if _, err := m.fs.Create(ctx, memberFile(number), append(data, '\n')); err != nil {
		return member{}, err
	}
	return m.read(ctx, number)
}

// take notes this node's number, with a directory for what it has to say.
func (m *members) take(ctx context.Context, one member, err error) (int, error) {
	if err == nil {
		err = m.fs.Mkdir(ctx, memberDir(one.number), 0o700)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return -1, fmt.Errorf("join the nodes of the store: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.own = one.number
	return one.number, nil
}

func (m *members) joined() (number int, joined bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.own, m.own >= 0
}

// check tells whether this node is a member still, with errForgotten if not.
func (m *members) check(ctx context.Context) error {
	number, joined := m.joined()
	if !joined {
		return errForgotten
	}
	one, err := m.get(ctx, number)
	if err != nil {
		return err
	}
	info, err := m.fs.Lstat(ctx, memberFile(number))
	if err != nil {
		return err
	}
	if info.Inode != one.inode {
		if one, err = m.read(ctx, number); err != nil {
			return err
		}
	}
	if !one.Forgotten && one.Node == m.node {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.own = -1
	return errForgotten
}

// forget has the references of a member not count any more.
func (m *members) forget(ctx context.Context, number int) error {
	one, err := m.read(ctx, number)
	if err != nil || one.Forgotten {
		return err
	}
	one.Forgotten = true
	data, err := json.Marshal(one)
	if err != nil {
		return err
	}
	if _, err := replace(ctx, m.fs, memberFile(number), append(data, '\n')); err != nil {
		return err
	}
	_, err = m.read(ctx, number)
	return err
}
