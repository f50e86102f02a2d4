package volume

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/glustervol/glustervol/gluster"
)

// A node tells others that it is alive by replacing one file again and again. Who
// watches compares no clock: the file's inode number changes, or does not, and
// for how long is told by the watcher's own monotonic clock.
const (
	// beatPause is how often a node tells.
	beatPause = 3 * time.Second
	// clashTime is how long a node watches its own file, as another machine may
	// have written it, until it takes that for its own of before a reboot.
	clashTime = 4 * beatPause
	// aliveTime is for how long nothing may be heard of a node that is alive.
	aliveTime = 5 * beatPause
	// heardAtOnce is of how many others a node hears with each beat: all listen to all, and
	// with a hundred nodes that would be most of what the bricks have to do.
	heardAtOnce = 10
	// forgetPatience is for how long a node has to be unheard of until a person
	// may say that it is gone.
	forgetPatience = 3 * time.Minute
)

func aliveFile(number int) string { return path.Join(memberDir(number), "alive"+recordSuffix) }

// alive is what the file says.
type alive struct {
	Session string `json:"session"`
	// Boot is the kernel's id of the machine's last boot: a driver that is started
	// again has the same, another machine never.
	Boot string `json:"boot"`
	Host string `json:"host"`
}

// pulse is this node's heartbeat on one store, and what it hears of others.
type pulse struct {
	own alive

	mu sync.Mutex
	// inode is that of the file that this node wrote last, 0 before the first.
	inode uint64
	// beats counts them.
	beats uint32
	// heard is when each other node, by number, was heard of last.
	heard map[int]hearing
	// turn is with whom of the others the next hearing begins.
	turn int
}

type hearing struct {
	// sign changes with every beat.
	sign sign
	// at is when that was seen first, and seen when it was seen last.
	at, seen time.Time
}

// sign is by what a node shows that it is alive.
type sign struct {
	// inode is that of its file, 0 while its driver does not run.
	inode uint64
	// mode is that of its directory, see beatFull.
	mode fs.FileMode
}

func newPulse(session string) *pulse {
	boot, _ := os.ReadFile(bootIDFile) // "" is like no other's
	host, _ := os.Hostname()
	return &pulse{own: alive{Session: session, Boot: string(bytes.TrimSpace(boot)), Host: host}, heard: map[int]hearing{}}
}

// ClashError says that another machine has this node's id.
type ClashError struct {
	Node, Host string
}

func (e *ClashError) Error() string {
	return fmt.Sprintf("another machine, %s, uses this node's id %s too, as after the copying of a disk; on one of them stop the driver, remove the file node-id in its state directory, and start it again", e.Host, e.Node)
}

// enter joins the store's nodes, unless another machine is there in this one's
// name.
func (c *catalog) enter(ctx context.Context) error {
	number, err := c.members.join(ctx)
	if err != nil {
		return err
	}
	other, err := c.readAlive(ctx, number)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged) {
		return nil
	}
	if err != nil || other.Session == c.pulse.own.Session || other.Boot == c.pulse.own.Boot {
		return err
	}
	return c.watchOwn(ctx, number, other)
}

// watchOwn sees whether this node's file is replaced by another.
func (c *catalog) watchOwn(ctx context.Context, number int, other alive) error {
	first, err := c.inode(ctx, aliveFile(number))
	if err != nil {
		return err
	}
	for start := time.Now(); time.Since(start) < clashTime; {
		select {
		case <-time.After(beatPause / 3):
		case <-ctx.Done():
			return fmt.Errorf("it is not known yet whether %s uses this node's id: %w", other.Host, context.Cause(ctx))
		}
		now, err := c.inode(ctx, aliveFile(number))
		if err != nil {
			return err
		}
		if now != first {
			return &ClashError{Node: c.node.ID, Host: other.Host}
		}
	}
	return nil
}

// inode is that of a file, 0 if there is none.
func (c *catalog) inode(ctx context.Context, file string) (uint64, error) {
	info, err := c.fs.Lstat(ctx, file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return info.Inode, err
}

func (c *catalog) readAlive(ctx context.Context, number int) (alive, error) {
	data, err := c.fs.ReadFile(ctx, aliveFile(number))
	if err != nil && !errors.Is(err, fs.ErrInvalid) {
		return alive{}, err
	}
	var a alive
	if json.Unmarshal(data, &a) != nil || a.Session == "" {
		return alive{}, fmt.Errorf("%w: %s", ErrDamaged, aliveFile(number))
	}
	return a, nil
}

// beat tells that this node is alive, and hears whether others are. A ClashError
// tells the one of two nodes of the same id that has to go.
func (c *catalog) beat(ctx context.Context) error {
	number, err := c.members.join(ctx)
	if err != nil {
		return err
	}
	if err := c.checkPulse(ctx, number); err != nil {
		return err
	}
	data, err := json.Marshal(c.pulse.own)
	if err != nil {
		return err
	}
	inode, err := replace(ctx, c.fs, aliveFile(number), append(data, '\n'))
	if isFull(err) {
		return errors.Join(c.beatFull(ctx, number), c.hear(ctx, number))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return c.renewDir(ctx, number, err) // the next beat is soon
	}
	if err != nil {
		return err
	}
	c.pulse.mu.Lock()
	c.pulse.inode = inode
	c.pulse.mu.Unlock()
	return c.hear(ctx, number)
}

// beatFull beats on a store that takes no new file: by the permission of the
// node's directory, for others, who do not get there anyhow.
func (c *catalog) beatFull(ctx context.Context, number int) error {
	c.pulse.mu.Lock()
	c.pulse.beats++
	mode := 0o700 | fs.FileMode(c.pulse.beats%8)
	c.pulse.mu.Unlock()
	return c.fs.Chmod(ctx, memberDir(number), mode)
}

// signOf is a node's sign as it is now.
func (c *catalog) signOf(ctx context.Context, number int) (s sign, err error) {
	if s.inode, err = c.inode(ctx, aliveFile(number)); err != nil {
		return sign{}, err
	}
	info, err := c.fs.Lstat(ctx, memberDir(number))
	if errors.Is(err, fs.ErrNotExist) { // it has not finished joining
		err = nil
	}
	s.mode = info.Mode
	return s, err
}

// checkPulse looks whether somebody else has written this node's file.
func (c *catalog) checkPulse(ctx context.Context, number int) error {
	c.pulse.mu.Lock()
	last := c.pulse.inode
	c.pulse.mu.Unlock()
	now, err := c.inode(ctx, aliveFile(number))
	if err != nil || last == 0 || now == 0 || now == last {
		return err
	}
	other, err := c.readAlive(ctx, number)
	if err == nil && other.Session > c.pulse.own.Session { // else the other one goes
		err = &ClashError{Node: c.node.ID, Host: other.Host}
	}
	return err
}

// hear notes which of the other nodes have told that they are alive.
func (c *catalog) hear(ctx context.Context, own int) error {
	list, err := c.members.all(ctx)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(list, func(one member) bool { return one.number == own || one.Forgotten })
	for _, one := range c.pulse.next(others) {
		now, err := c.signOf(ctx, one.number)
		if err != nil {
			return err
		}
		c.pulse.hear(one.number, now)
	}
	return nil
}

// next are those of the others whose turn it is.
func (p *pulse) next(others []member) []member {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(others) <= heardAtOnce {
		return others
	}
	begin := p.turn % len(others)
	p.turn = begin + heardAtOnce
	return slices.Concat(others[begin:], others[:begin])[:heardAtOnce]
}

func (p *pulse) hear(number int, now sign) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h, known := p.heard[number]
	if !known || h.sign != now {
		h = hearing{sign: now, at: time.Now()}
	}
	h.seen = time.Now()
	p.heard[number] = h
}

// unheard is for how long a node was seen not to beat, and whether it has told that its
// driver stops. It counts from when this node began to watch.
func (p *pulse) unheard(number int) (silence time.Duration, stopped bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h, known := p.heard[number]
	if !known {
		return 0, false
	}
	return h.seen.Sub(h.at), h.sign.inode == 0
}

// leave tells others that the driver of this node stops.
func (c *catalog) leave(ctx context.Context) error {
	number, joined := c.members.joined()
	if !joined {
		return nil
	}
	last, err := c.readAlive(ctx, number)
	if errors.Is(err, fs.ErrNotExist) || err == nil && last.Boot != c.pulse.own.Boot {
		return nil // another machine's is its own
	}
	if err != nil {
		return err
	}
	return c.removeIfThere(ctx, aliveFile(number))
}

// replace writes a file of the store whole or not at all, and returns its inode
// number.
func replace(ctx context.Context, store gluster.FS, file string, data []byte) (inode uint64, err error) {
	draft := path.Join(path.Dir(file), "."+path.Base(file)+"."+NewID())
	if inode, err = store.Create(ctx, draft, data); err != nil {
		return 0, err
	}
	return inode, store.Rename(ctx, draft, file)
}
