package volume

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// containers are the containers of this node that use volumes, as Docker told
// last.
type containers struct {
	mu sync.Mutex
	// known tells that Docker has told, or that nobody asks it.
	known    bool
	byVolume map[string][]ContainerRef
}

// SetContainers notes which containers of this node, running or not, use which
// volumes. Other nodes are told within a second.
func (m *Manager) SetContainers(byVolume map[string][]ContainerRef) {
	for _, refs := range byVolume {
		slices.SortFunc(refs, func(a, b ContainerRef) int { return strings.Compare(a.ID, b.ID) })
	}
	m.containers.mu.Lock()
	defer m.containers.mu.Unlock()
	m.containers.known, m.containers.byVolume = true, byVolume
}

// Containers are the containers of this node that use a volume, running or not.
func (m *Manager) Containers(name string) []ContainerRef {
	m.containers.mu.Lock()
	defer m.containers.mu.Unlock()
	return slices.Clone(m.containers.byVolume[name])
}

// all returns the containers by volume. While they are not known, a reference of
// an earlier session may be for one.
func (c *containers) all() (byVolume map[string][]ContainerRef, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.byVolume), c.known
}
