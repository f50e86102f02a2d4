package volume

// StoreInfo is a store as this node sees it.
type StoreInfo struct {
	Address string `json:"address"`
	Default bool   `json:"default"`
	// Control is how it is reached for all but the data of volumes.
	Control ControlInfo `json:"control"`
	// Reached tells that it has answered since the driver's start; Trouble is
	// why it could not be reached lately, or "".
	Reached bool   `json:"reached"`
	Trouble string `json:"trouble,omitempty"`
	// Unwritable is why it answers, and could not be written lately, or "".
	Unwritable string `json:"unwritable,omitempty"`
	Volumes    int    `json:"volumes"`
}

// Stores describes the stores, the default first, without asking them.
func (m *Manager) Stores() []StoreInfo {
	list := make([]StoreInfo, 0, len(m.stores))
	for i, s := range m.stores {
		info := StoreInfo{Address: s.address.String(), Default: i == 0, Control: m.config.Control.ControlInfo, Reached: s.wasReached(), Volumes: len(s.list())}
		if err := s.lastTrouble(); err != nil {
			info.Trouble = err.Error()
		}
		if err := s.lastUnwritable(); err != nil {
			info.Unwritable = err.Error()
		}
		list = append(list, info)
	}
	return list
}
