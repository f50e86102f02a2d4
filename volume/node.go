package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// ThisNode tells who this node is: an ID that it gave itself at its first
// start and keeps in stateDir, and a new session. A file that does not hold an id
// is set aside, and the node is a new one: what it used under its former id still
// counts as used, by a node that is gone.
func ThisNode(stateDir string, log *slog.Logger) (Node, error) {
	file := filepath.Join(stateDir, "node-id")
	data, err := os.ReadFile(file)
	id, whole := strings.CutSuffix(string(data), "\n")
	if err == nil && !whole {
		err = errors.New("it breaks off")
	}
	if err == nil {
		err = CheckName(id)
	}
	if err == nil {
		return Node{ID: id, Session: NewID()}, nil
	}
	fresh, freshErr := newNodeID()
	if freshErr != nil {
		return Node{}, freshErr
	}
	if !errors.Is(err, fs.ErrNotExist) {
		aside, asideErr := setAside(file)
		if asideErr != nil {
			return Node{}, fmt.Errorf("%s does not hold a node's id: %w; remove the file, and the node takes a new one", file, errors.Join(err, asideErr))
		}
		log.Error("this node's id is damaged, and it takes a new one; put the id back, or say 'glustervol node forget' of the former", "file", aside, "node", fresh, "err", err)
	}
	return Node{ID: fresh, Session: NewID()}, replaceFile(file, []byte(fresh+"\n"))
}

func newNodeID() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	if CheckName(host) != nil {
		host = "node"
	}
	return host + "-" + NewID()[:8], nil
}
