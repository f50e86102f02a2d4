package volume

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestThisNode keeps its id, and is another session each time.
func TestThisNode(t *testing.T) {
	dir := t.TempDir()
	first, err := ThisNode(dir, slog.New(slog.DiscardHandler))
	must(t, err)
	second, err := ThisNode(dir, slog.New(slog.DiscardHandler))
	must(t, err)
	if first.ID != second.ID || first.Session == second.Session {
		t.Errorf("first %+v, then %+v", first, second)
	}
	if host, err := os.Hostname(); err != nil || !strings.HasPrefix(first.ID, host+"-") || CheckName(first.ID) != nil {
		t.Errorf("the id of host %q is %q, %v", host, first.ID, err)
	}
	if other, err := ThisNode(t.TempDir(), slog.New(slog.DiscardHandler)); err != nil || other.ID == first.ID {
		t.Errorf("another node of that name is %+v, %v", other, err)
	}
}

// TestThisNodeDamaged: the file is kept, and the node is a new one.
func TestThisNodeDamaged(t *testing.T) {
	write := func(id string) func(string) error {
		return func(file string) error { return os.WriteFile(file, []byte(id), 0o600) }
	}
	for doc, plant := range map[string]func(file string) error{
		"nothing": write(""), "a part of it": write("node-a"), "a way out": write("../x\n"), "a control character": write("a\x00b\n"), "too much": write(strings.Repeat("x", 300) + "\n"),
		"a directory": func(file string) error { return os.Mkdir(file, 0o700) },
	} {
		t.Run(doc, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "node-id")
			for _, aside := range []string{".damaged", ".damaged.1"} {
				must(t, plant(file))
				damaged := snapshot(t, dir)[file]
				var log strings.Builder
				node, err := ThisNode(dir, slog.New(slog.NewTextHandler(&log, nil)))
				must(t, err)
				wantText(t, errors.New(log.String()), "level=ERROR")
				wantText(t, errors.New(log.String()), "file="+file+aside)
				if after := snapshot(t, dir); after[file+aside] != damaged {
					t.Errorf("%q was not set aside: %q", damaged, after)
				}
				if again, err := ThisNode(dir, slog.New(slog.DiscardHandler)); err != nil || again.ID != node.ID {
					t.Errorf("it is %+v, then %+v, %v", node, again, err)
				}
				must(t, os.Remove(file))
			}
		})
	}
}
