package volume

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/mount"
)

// Definition is what the store says of a volume.
type Definition struct {
	Name string `json:"name"`
	// ID tells this volume from all others that had or will have its name.
	ID string `json:"id"`
	// Created is by the clock of the node that created it: for the eye only.
	Created time.Time `json:"created"`
	Options Options   `json:"options"`

	// inode is that of the definition's file on the store, 0 if it is not known.
	// While the name leads to it, nothing has changed.
	inode uint64
}

// Node tells one run of one node's driver from all others.
type Node struct {
	ID      string `json:"node"`
	Session string `json:"session"`
}

// record is a file of the catalog: a definition, and what the operation under
// way needs to be finished by somebody else.
type record struct {
	Definition
	// By wrote it.
	By Node `json:"by"`
	// Adopt and Restores are a claim's: the directory may be there already; it
	// comes from this entry of the trash.
	Adopt    bool   `json:"adopt,omitempty"`
	Restores string `json:"restores,omitempty"`
	// Removed and KeepData are a removal's. The time is by the remover's clock,
	// for the eye only.
	Removed  *time.Time `json:"removed,omitempty"`
	KeepData bool       `json:"keep-data,omitempty"`

	// made tells that the creation under way has made the directory.
	made bool
	// begun is when this process began with the operation, in nanoseconds since
	// the boot; 0 for one that has no end.
	begun int64
}

// late tells an operation that has to stop.
func (r record) late() error {
	if r.begun != 0 && sinceBoot()-r.begun > operationTime.Nanoseconds() {
		return errLate
	}
	return nil
}

// idLength is the number of hex digits of an ID.
const idLength = 16

var validID = regexp.MustCompile(fmt.Sprintf(`^[0-9a-f]{%d}$`, idLength))

// NewID returns a random ID.
func NewID() string {
	var b [idLength / 2]byte
	_, _ = rand.Read(b[:]) // crypto/rand does not fail
	return hex.EncodeToString(b[:])
}

// Dir is the volume's directory relative to the store's root.
func (d Definition) Dir() string {
	if d.Options.Path != "" {
		return d.Options.Path
	}
	return path.Join(dataDir, d.Name)
}

// ownDir tells whether the directory was made for the volume and goes with it.
func (d Definition) ownDir() bool { return d.Options.Path == "" }

// entry is the volume's name in the trash.
func (d Definition) entry() string { return d.Name + "." + d.ID }

func (r record) encode() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	return append(data, '\n'), err
}

// decodeRecord reads a file of the catalog. What it says is checked as if a
// stranger had written it: it names paths and options.
func decodeRecord(data []byte) (record, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, err
	}
	return r, r.check()
}

func (r record) check() error {
	if err := CheckName(r.Name); err != nil {
		return err
	}
	if !validID.MatchString(r.ID) {
		return fmt.Errorf("id %q is not %d hex digits", r.ID, idLength)
	}
	if year := r.Created.Year(); year < 1 || year > 9999 {
		return errors.New("created is out of range") // RFC 3339 ends there, and Docker with it
	}
	return r.Options.checkStored()
}

// checkStored holds options from the store against what ParseOptions would
// have made of them.
func (o Options) checkStored() error {
	canonical, err := ParseOptions(o.request())
	if err != nil {
		return err
	}
	if list := o.differences(canonical.Options); len(list) > 0 {
		return fmt.Errorf("options are not in canonical form: %s", strings.Join(list, ", "))
	}
	return nil
}

// request is what a user writes to ask for o.
func (o Options) request() map[string]string {
	options := map[string]string{"on-remove": string(o.OnRemove)}
	for key, value := range map[string]string{
		"client-options": string(o.ClientOptions), "gid": idText(o.GID), "mode": o.Mode, "path": o.Path, "uid": idText(o.UID),
	} {
		if value != "" {
			options[key] = value
		}
	}
	return options
}

// source is what a client mounts for the volumes of a store with these options.
func source(store gluster.Address, options mount.Options) mount.Source {
	return mount.Source{Servers: store.Servers, Volume: store.Volume, Subdir: store.Subdir, Options: options}
}
