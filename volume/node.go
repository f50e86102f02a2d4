package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ThisNode tells who this node is: an ID that it gave itself at its first
// start and keeps in stateDir, and a new session.
func ThisNode(stateDir string) (Node, error) {
	file := filepath.Join(stateDir, "node-id")
	data, err := os.ReadFile(file)
	id := strings.TrimSpace(string(data))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		host, err := os.Hostname()
		if err != nil {
			return Node{}, err
		}
		if CheckName(host) != nil {
			host = "node"
		}
		id = host + "-" + NewID()[:8]
		if err := replaceFile(file, []byte(id+"\n")); err != nil {
			return Node{}, err
		}
	case err != nil:
		return Node{}, err
	}
	if err := CheckName(id); err != nil {
		return Node{}, fmt.Errorf("%s does not hold a node's id: %w; remove the file, and the node takes a new one", file, err)
	}
	return Node{ID: id, Session: NewID()}, nil
}
