package volume

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestThisNode keeps its id, and is another session each time.
func TestThisNode(t *testing.T) {
	dir := t.TempDir()
	first, err := ThisNode(dir)
	must(t, err)
	second, err := ThisNode(dir)
	must(t, err)
	if first.ID != second.ID || first.Session == second.Session {
		t.Errorf("first %+v, then %+v", first, second)
	}
	if host, err := os.Hostname(); err != nil || !strings.HasPrefix(first.ID, host+"-") || CheckName(first.ID) != nil {
		t.Errorf("the id of host %q is %q, %v", host, first.ID, err)
	}
	if other, err := ThisNode(t.TempDir()); err != nil || other.ID == first.ID {
		t.Errorf("another node of that name is %+v, %v", other, err)
	}
}

func TestThisNodeRefuses(t *testing.T) {
	for doc, id := range map[string]string{"nothing": "", "a way out": "../x", "a control character": "a\x00b", "too much": strings.Repeat("x", 300)} {
		t.Run(doc, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "node-id")
			must(t, os.WriteFile(file, []byte(id), 0o600))
			node, err := ThisNode(dir)
			wantText(t, err, file+" does not hold a node's id")
			wantText(t, err, "remove the file")
			if node != (Node{}) {
				t.Errorf("it is %+v", node)
			}
			if data, err := os.ReadFile(file); string(data) != id {
				t.Errorf("the file has %q, %v", data, err)
			}
		})
	}
}
