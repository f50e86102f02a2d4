package volume

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// TestNews: what one node changes, others show within two seconds, and nobody lists all
// volumes for it.
func TestNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		one, other := newNode(t, "node-a", d).start(t), newNode(t, "node-b", d).start(t)
		defer run(t, one)()
		defer run(t, other)()
		time.Sleep(2*sweepPause + 5*time.Second) // behind a sweep
		listed := 0
		d.set(func(_ context.Context, op, name string) error {
			if op == "readdir" && name == definitionDir {
				listed++
			}
			return nil
		})
		names := func() []string { time.Sleep(2 * time.Second); return knownNames(one.stores[0]) }

		must(t, other.Create(t.Context(), "web", nil))
		wantNames(t, "created", names(), "web")
		must(t, other.Remove(t.Context(), "web", "", false))
		must(t, other.Create(t.Context(), "web", map[string]string{"mode": "0700"}))
		wantNames(t, "created anew", names(), "web")
		want, _ := other.stores[0].get("web")
		if def, _ := one.stores[0].get("web"); def.ID != want.ID {
			t.Errorf("known as %+v, want %+v", def, want)
		}
		must(t, other.Remove(t.Context(), "web", "", false))
		wantNames(t, "removed", names())
		list, err := other.Trash(t.Context())
		must(t, err)
		_, err = other.Restore(t.Context(), list[0].Entry, "db")
		must(t, err)
		wantNames(t, "restored", names(), "db")
		if listed > 0 {
			t.Errorf("all volumes were listed %d times", listed)
		}
		if files := mustGlob(t, d, newsDir, "", ""); len(files) != 2 {
			t.Errorf("news of two nodes: %q", files)
		}
	})
}

// TestNewsHeardOnce: what a listing or a reading meets by chance is no reason to list all
// volumes.
func TestNewsHeardOnce(t *testing.T) {
	for doc, disturb := range map[string]func(t *testing.T, d *disk, news string){
		"a listing lacks news that are just replaced": func(_ *testing.T, d *disk, news string) {
			d.hide(path.Base(news), true)
			time.Sleep(2 * refreshPause)
			d.hide(path.Base(news), false)
		},
		"news are being written": func(t *testing.T, d *disk, _ string) {
			half := newsFile(1, "0123456789abcdef")
			time.Sleep(refreshPause / 2) // between two hearings
			d.write(t, half, `{"session": "1", "la`)
			time.Sleep(refreshPause) // it is met once
			must(t, os.Remove(d.path(half)))
		},
		"this node's own, which it has not noted yet": func(t *testing.T, d *disk, _ string) {
			d.write(t, newsFile(0, "0123456789abcdef"), `{"session": "other", "last": 1, "names": ["web"]}`)
		},
	} {
		t.Run(doc, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDisk(t)
				one := newNode(t, "node-a", d).start(t)
				must(t, one.stores[0].refresh(t.Context()))
				other := newNode(t, "node-b", d).start(t)
				must(t, other.stores[0].refresh(t.Context()))
				must(t, other.stores[0].tell(t.Context()))
				defer run(t, one)()
				time.Sleep(2*sweepPause + 5*time.Second) // behind a sweep
				d.set(func(_ context.Context, op, name string) error {
					if op == "readdir" && name == definitionDir {
						t.Error("all volumes are listed")
					}
					return nil
				})
				disturb(t, d, other.stores[0].news.file)
				time.Sleep(3 * refreshPause)
				d.set(nil)
			})
		})
	}
}

// TestNewsMissed: changes that no news tells of, or too many at once.
func TestNewsMissed(t *testing.T) {
	tests := []struct {
		doc    string
		change func(*testing.T, *disk)
		within time.Duration
	}{
		{
			doc: "the node was killed before it could tell",
			change: func(t *testing.T, d *disk) {
				mustCreate(t, d.catalog(t, Node{ID: "node-b"}), definition("web", nil), false)
			},
			within: sweepPause + 2*time.Second,
		},
		{
			doc: "it has told when its driver was started again",
			change: func(t *testing.T, d *disk) {
				mustCreate(t, d.catalog(t, Node{ID: "node-b", Session: "1"}), definition("web", nil), false)
				must(t, d.catalog(t, Node{ID: "node-b", Session: "2"}).tell(t.Context()))
			},
			within: 2 * time.Second,
		},
		{
			doc: "more changes than fit",
			change: func(t *testing.T, d *disk) {
				cat := d.catalog(t, Node{ID: "node-b", Session: "1"})
				must(t, cat.tell(t.Context()))
				time.Sleep(2 * time.Second)
				mustCreate(t, cat, definition("web", nil), false)
				for i := range newsLength {
					cat.news.changed(fmt.Sprint("other", i))
				}
				must(t, cat.tell(t.Context()))
			},
			within: 2 * time.Second,
		},
		{
			doc: "damaged news",
			change: func(t *testing.T, d *disk) {
				mustCreate(t, d.catalog(t, Node{ID: "node-b"}), definition("web", nil), false)
				d.write(t, newsFile(7, "0123456789abcdef"), `{"session": "1", "last": 1, "names": ["../../etc", "a`)
			},
			within: 3 * time.Second, // it may be being written at first
		},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDisk(t)
				m := newNode(t, "node-a", d).start(t)
				defer run(t, m)()
				time.Sleep(time.Second / 2)
				tt.change(t, d)
				time.Sleep(tt.within)
				wantNames(t, "known", knownNames(m.stores[0]), "web")
			})
		})
	}
}

// TestNewsAreGathered has a node change much in a moment: the first change is told at once,
// the others together.
func TestNewsAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		one, other := newNode(t, "node-a", d).start(t), newNode(t, "node-b", d).start(t)
		defer run(t, one)()
		defer run(t, other)()
		time.Sleep(5 * time.Second)
		var mu sync.Mutex
		files := 0
		d.set(func(_ context.Context, op, name string) error {
			mu.Lock()
			defer mu.Unlock()
			if op == "create" && strings.HasPrefix(name, newsDir) {
				files++
			}
			return nil
		})
		const volumes = 50
		for i := range volumes {
			must(t, one.Create(t.Context(), fmt.Sprint("volume", i), nil))
			time.Sleep(20 * time.Millisecond)
			mu.Lock()
			if i == 0 && files != 1 {
				t.Errorf("%d files of news tell of the first change", files)
			}
			mu.Unlock()
		}
		time.Sleep(2 * time.Second)
		if known := knownNames(other.stores[0]); len(known) != volumes {
			t.Errorf("%d volumes are known elsewhere", len(known))
		}
		mu.Lock()
		defer mu.Unlock()
		if most := 2 + int(volumes*20*time.Millisecond/tellPause); files > most {
			t.Errorf("%d files of news, wanted at most %d", files, most)
		}
	})
}

// TestNewsOfHostileNames: what a file of news names is looked up as a volume, or not at all.
func TestNewsOfHostileNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		m := newNode(t, "node-a", d).start(t)
		defer run(t, m)()
		write := func(id string, last int, names string) {
			d.write(t, newsFile(7, id), fmt.Sprintf(`{"session": "1", "last": %d, "names": [%s]}`, last, names))
			time.Sleep(2 * time.Second)
		}
		write("0000000000000000", 0, "")
		d.set(func(_ context.Context, _, name string) error {
			if strings.Contains(name, "..") || strings.Contains(name, "secret") {
				t.Errorf("%q was looked up", name)
			}
			return nil
		})
		write("1111111111111111", 3, `"../nodes/secret", "/etc/secret", "a/../../secret"`)
		heard := m.stores[0].news
		heard.mu.Lock()
		defer heard.mu.Unlock()
		if n := heard.heard["7"].Last; n != 3 {
			t.Errorf("heard of %d changes", n)
		}
	})
}

// TestNewsCannotBeTold: nothing else suffers, and they are told later.
func TestNewsCannotBeTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		one, other := newNode(t, "node-a", d).start(t), newNode(t, "node-b", d).start(t)
		defer run(t, one)()
		defer run(t, other)()
		time.Sleep(5 * time.Second)
		d.set(func(_ context.Context, op, name string) error {
			if op == "create" && path.Dir(name) == newsDir {
				return unix.ENOSPC
			}
			return nil
		})
		must(t, other.Create(t.Context(), "web", nil))
		time.Sleep(4 * time.Second)
		wantNames(t, "before", knownNames(one.stores[0]))
		d.set(nil)
		time.Sleep(beatPause + 2*time.Second)
		wantNames(t, "after", knownNames(one.stores[0]), "web")
	})
}
