package volume

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/glustervol/glustervol/gluster"
)

// cache keeps on this node's disk what the node knew last of a store's
// volumes, a file for each. A driver that starts while Gluster is down thus
// still knows them: Docker would forget a volume that it is told does not exist.
type cache struct {
	dir string
}

// newCache returns the cache of a store. The servers do not count: the same
// store may be given by others tomorrow.
func newCache(stateDir string, address gluster.Address) *cache {
	sum := sha256.Sum256([]byte(address.Volume + "/" + address.Subdir))
	return &cache{dir: filepath.Join(stateDir, "known", address.Volume+"-"+hex.EncodeToString(sum[:4]))}
}

// load returns the volumes of the cache. What is damaged is set aside and told to
// log: the store has it right.
func (c *cache) load(log *slog.Logger) (map[string]Definition, error) {
	known := map[string]Definition{}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok { // a draft, or what was set aside
			continue
		}
		def, err := c.read(name)
		if err == nil {
			known[name] = def
			continue
		}
		aside, asideErr := setAside(filepath.Join(c.dir, e.Name()))
		log.Error("volume is not known until the store answers: what this node knew of it is damaged", "volume", name, "file", aside, "err", errors.Join(err, asideErr))
	}
	return known, nil
}

func (c *cache) read(name string) (Definition, error) {
	data, err := os.ReadFile(filepath.Join(c.dir, name+recordSuffix))
	if err != nil {
		return Definition{}, err
	}
	r, err := decodeRecord(data)
	if err == nil && r.Name != name {
		err = fmt.Errorf("it tells of volume %q", r.Name)
	}
	return r.Definition, err
}

func (c *cache) put(def Definition) error {
	data, err := record{Definition: def}.encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil { // somebody may have removed it
		return err
	}
	return replaceFile(filepath.Join(c.dir, def.Name+recordSuffix), data)
}

func (c *cache) drop(name string) error {
	err := os.Remove(filepath.Join(c.dir, name+recordSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// replaceFile writes a file of this node whole or not at all, as far as the
// death of the driver goes. It is not synced: what it guards against a power
// cut is on the store.
func replaceFile(file string, data []byte) error {
	draft := file + ".tmp"
	if err := os.WriteFile(draft, data, 0o600); err != nil {
		return err
	}
	return os.Rename(draft, file)
}
