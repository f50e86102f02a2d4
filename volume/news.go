package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Nodes tell each other which volumes they have made, removed or restored, so that
// nobody has to list all volumes every second:
//
//	.glustervol/news/N.ID.json  the last names that node N has changed
//
// Each change is another file, of another name, and the former one goes: one listing of
// a directory with a file a node shows who has something to tell. News are a hint. What
// a node could not tell, since it was killed at that moment, shows with the next sweep.
const newsDir = controlDir + "/news"

// newsLength is how many names a file has at most. Who has missed more of them lists
// all volumes.
const newsLength = 100

func newsFile(number int, id string) string {
	return path.Join(newsDir, strconv.Itoa(number)+"."+id+recordSuffix)
}

// tidings is what a file of news says.
type tidings struct {
	// Session is of the driver that has written it. Each counts anew.
	Session string `json:"session"`
	// Last is the number of changes that the session has told.
	Last int `json:"last"`
	// Names are those of the last changes, the latest at the end.
	Names []string `json:"names"`
}

// news is what this node has to tell on one store, and what it has heard there.
type news struct {
	session string
	// toTell wakes who tells.
	toTell chan struct{}

	mu sync.Mutex
	// own are the names of the last changes of this session, last counts all of them,
	// and told those that are on the store, in file.
	own        []string
	last, told int
	file       string
	// seen are the files that were listed when all that they tell was known, and
	// heard the last change of each node that is known, by its number.
	seen  []string
	heard map[string]tidings
	// torn are the files that could not be read: they may have been on their way.
	torn []string
}

func newNews(session string) *news {
	n := &news{session: session, toTell: make(chan struct{}, 1), told: -1, heard: map[string]tidings{}}
	n.tellSoon() // that it is another session: the former one may have been killed before it could tell
	return n
}

// changed notes that this node has changed, or may have changed, what a name stands for.
func (n *news) changed(name string) {
	n.mu.Lock()
	n.own = append(n.own, name)
	n.own = n.own[max(0, len(n.own)-newsLength):]
	n.last++
	n.mu.Unlock()
	n.tellSoon()
}

func (n *news) tellSoon() {
	select {
	case n.toTell <- struct{}{}:
	default: // it is about to be told anyhow
	}
}

// tell writes what this node has not told yet.
func (c *catalog) tell(ctx context.Context) error {
	number, err := c.members.join(ctx)
	if err != nil {
		return err
	}
	n := c.news
	n.mu.Lock()
	says, former, told := tidings{Session: n.session, Last: n.last, Names: slices.Clone(n.own)}, n.file, n.told
	n.mu.Unlock()
	if says.Last == told {
		return nil
	}
	data, err := json.Marshal(says)
	if err != nil {
		return err
	}
	file := newsFile(number, NewID())
	err = c.inDir(ctx, newsDir, 0o700, func() error {
		_, err := c.fs.Create(ctx, file, append(data, '\n'))
		return err
	})
	if err != nil {
		_ = c.fs.Remove(ctx, file)
		return err
	}
	n.mu.Lock()
	n.file, n.told = file, says.Last
	n.mu.Unlock()
	if former == "" {
		return c.dropFormerNews(ctx, number, file)
	}
	return c.removeIfThere(ctx, former)
}

// dropFormerNews removes what earlier sessions of this node have left.
func (c *catalog) dropFormerNews(ctx context.Context, number int, but string) error {
	files, err := c.newsFiles(ctx)
	for _, file := range files {
		if numberOf(file) == strconv.Itoa(number) && path.Join(newsDir, file) != but {
			err = errors.Join(err, c.removeIfThere(ctx, path.Join(newsDir, file)))
		}
	}
	return err
}

// newsFiles are the names of the files of news, sorted.
func (c *catalog) newsFiles(ctx context.Context) ([]string, error) {
	entries, err := c.fs.ReadDir(ctx, newsDir)
	if errors.Is(err, fs.ErrNotExist) { // nobody has had any
		return nil, nil
	}
	var files []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name, recordSuffix) {
			files = append(files, e.Name)
		}
	}
	return files, err
}

// numberOf is the number of the node that has written a file of news.
func numberOf(file string) string {
	number, _, _ := strings.Cut(file, ".")
	return number
}

// heardNews is what others have told.
type heardNews struct {
	files []string
	heard map[string]tidings
	torn  []string
	// names are those that were changed; all says that some were missed.
	names []string
	all   bool
}

// hearNews reads the news that came since they were noted last.
func (c *catalog) hearNews(ctx context.Context) (heardNews, error) {
	files, err := c.newsFiles(ctx)
	if err != nil {
		return heardNews{}, err
	}
	c.news.mu.Lock()
	seen, torn := c.news.seen, c.news.torn
	last := c.news.heard
	c.news.mu.Unlock()
	// Who is not listed has been heard all the same: a listing can lack what is replaced meanwhile.
	h := heardNews{files: files, heard: maps.Clone(last)}
	own, _ := c.members.joined() // what it says itself may be listed before it knows that it is written
	for _, file := range files {
		if numberOf(file) == strconv.Itoa(own) || slices.Contains(seen, file) {
			continue
		}
		says, err := c.readNews(ctx, file)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it has told more since
			h.skip(file)
		case errors.Is(err, ErrDamaged) && !slices.Contains(torn, file): // it may be being written
			h.skip(file)
			h.torn = append(h.torn, file)
		case errors.Is(err, ErrDamaged):
			h.all = true
		case err != nil:
			return heardNews{}, err
		default:
			h.add(numberOf(file), says)
		}
	}
	return h, nil
}

// skip leaves a file of news for the next time.
func (h *heardNews) skip(file string) {
	h.files = slices.DeleteFunc(slices.Clone(h.files), func(f string) bool { return f == file })
}

// add adds what a node says to what was heard of it before.
func (h *heardNews) add(number string, says tidings) {
	before := h.heard[number]
	missed := says.Last - before.Last
	if before.Session != says.Session || missed < 0 || missed > len(says.Names) {
		h.all = true
	} else {
		for _, name := range says.Names[len(says.Names)-missed:] {
			if CheckName(name) == nil {
				h.names = append(h.names, name)
			}
		}
	}
	h.heard[number] = says
}

func (c *catalog) readNews(ctx context.Context, file string) (tidings, error) {
	data, err := c.fs.ReadFile(ctx, path.Join(newsDir, file))
	if err != nil && !errors.Is(err, fs.ErrInvalid) {
		return tidings{}, err
	}
	var says tidings
	if json.Unmarshal(data, &says) != nil || says.Session == "" || says.Last < len(says.Names) || len(says.Names) > newsLength {
		return tidings{}, fmt.Errorf("%w: %s", ErrDamaged, file)
	}
	return says, nil
}

// note notes that what was heard is known.
func (n *news) note(h heardNews) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen, n.heard, n.torn = h.files, h.heard, h.torn
}
