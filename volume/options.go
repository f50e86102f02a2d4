package volume

import (
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/mount"
)

// OnRemove says what becomes of a volume's data when the volume is removed.
type OnRemove string

// The values of the option on-remove.
const (
	// Trash keeps the data in the trash until it is purged. The default.
	Trash OnRemove = "trash"
	// Delete purges the data at once.
	Delete OnRemove = "delete"
	// Retain leaves the directory where it is, without a volume.
	Retain OnRemove = "retain"
)

// Options are what a volume is created with and keeps.
type Options struct {
	// Path is the directory of a volume that does not have one of its own:
	// relative to the store's root, used where it is, never removed. "" is
	// volumes/NAME.
	Path string `json:"path,omitempty"`
	// UID and GID own the directory; nil leaves them as they are, root for a
	// new one.
	UID *int `json:"uid,omitempty"`
	GID *int `json:"gid,omitempty"`
	// Mode is the directory's permission as chmod(1) writes it, in octal; ""
	// leaves it as it is, 0755 for a new one.
	Mode string `json:"mode,omitempty"`
	// OnRemove says what becomes of the data.
	OnRemove OnRemove `json:"on-remove"`
	// ClientOptions are for the Gluster client, in canonical form.
	ClientOptions mount.Options `json:"client-options,omitempty"`
}

// Request is what a user asks for with -o.
type Request struct {
	Options
	// Store is the address, as the user wrote it, or "" for the default.
	Store string
	// Adopt takes over a directory that is already there.
	Adopt bool
	// Empty tells that no option was given: what Docker asks for when it only
	// knows the name.
	Empty bool
}

// optionParsers know every option of docker volume create -o, by key.
var optionParsers = map[string]func(r *Request, value string) error{
	"adopt":          parseAdopt,
	"client-options": parseClientOptions,
	"gid":            func(r *Request, value string) (err error) { r.GID, err = parseID(value); return err },
	"mode":           parseMode,
	"on-remove":      parseOnRemove,
	"path":           parsePath,
	"store":          func(r *Request, value string) error { r.Store = value; return nil },
	"uid":            func(r *Request, value string) (err error) { r.UID, err = parseID(value); return err },
}

// OptionKeys are the keys of all options, sorted.
func OptionKeys() []string { return slices.Sorted(maps.Keys(optionParsers)) }

// ParseOptions reads the options of docker volume create. The error names the
// option that is wrong and what would be right.
func ParseOptions(options map[string]string) (Request, error) {
	r := Request{Options: Options{OnRemove: Trash}, Empty: len(options) == 0}
	for _, key := range slices.Sorted(maps.Keys(options)) {
		parse, known := optionParsers[key]
		if !known {
			return Request{}, fmt.Errorf("option %q is not one of %s", key, strings.Join(OptionKeys(), ", "))
		}
		if err := parse(&r, options[key]); err != nil {
			return Request{}, fmt.Errorf("option %s: %w", key, err)
		}
	}
	return r, r.check()
}

// check finds options that do not go together.
func (o Options) check() error {
	if o.Path != "" && o.OnRemove == Delete {
		return fmt.Errorf("options path and on-remove=delete do not go together: a directory given by path is never removed")
	}
	return nil
}

func parseAdopt(r *Request, value string) error {
	switch value {
	case "", "true":
		r.Adopt = true
	case "false":
	default:
		return fmt.Errorf("%q is neither true nor false", value)
	}
	return nil
}

func parseClientOptions(r *Request, value string) (err error) {
	r.ClientOptions, err = mount.ParseOptions(value)
	return err
}

// parseID reads a user or group id. Names mean different ids in different
// images and on different nodes, so they are no option.
func parseID(value string) (*int, error) {
	// The largest id is chown's "leave it".
	id, err := strconv.ParseUint(value, 10, 32)
	if err != nil || id == math.MaxUint32 {
		return nil, fmt.Errorf("%q is not a numeric id; names differ between images, use a number such as 999", value)
	}
	return new(int(id)), nil
}

func parseMode(r *Request, value string) error {
	mode, err := strconv.ParseUint(value, 8, 32)
	if err != nil || mode > 0o3777 {
		return fmt.Errorf("%q is not a directory's mode in octal, such as 0750", value)
	}
	r.Mode = fmt.Sprintf("%04o", mode)
	return nil
}

func parseOnRemove(r *Request, value string) error {
	switch r.OnRemove = OnRemove(value); r.OnRemove {
	case Trash, Delete, Retain:
		return nil
	}
	return fmt.Errorf("%q is not one of trash, delete, retain", value)
}

func parsePath(r *Request, value string) error {
	value = strings.Trim(value, "/") // "/srv/www" cannot mean anything else than "srv/www"
	if err := gluster.CheckPath(value); err != nil {
		return err
	}
	if gluster.PathWithin(value, dataDir) || gluster.PathWithin(value, controlDir) {
		return fmt.Errorf("%q lies where glustervol keeps its own volumes; use a directory beside %s and %s", value, dataDir, controlDir)
	}
	r.Path = value
	return nil
}

// fileMode is Mode for gluster.FS, or def when none was asked for.
func (o Options) fileMode(def fs.FileMode) fs.FileMode {
	bits, err := strconv.ParseUint(o.Mode, 8, 32)
	if err != nil {
		return def
	}
	mode := fs.FileMode(bits) & fs.ModePerm
	if bits&0o1000 != 0 {
		mode |= fs.ModeSticky
	}
	if bits&0o2000 != 0 {
		mode |= fs.ModeSetgid
	}
	return mode
}

// differences lists in words how a request differs from what a volume has.
func (o Options) differences(asked Options) []string {
	var list []string
	compare := func(key, has, wants string) {
		if has != wants {
			list = append(list, fmt.Sprintf("%s is %s, not %s", key, orDefault(has), orDefault(wants)))
		}
	}
	compare("client-options", string(o.ClientOptions), string(asked.ClientOptions))
	compare("gid", idText(o.GID), idText(asked.GID))
	compare("mode", o.Mode, asked.Mode)
	compare("on-remove", string(o.OnRemove), string(asked.OnRemove))
	compare("path", o.Path, asked.Path)
	compare("uid", idText(o.UID), idText(asked.UID))
	return list
}

func orDefault(value string) string {
	if value == "" {
		return "the default"
	}
	return strconv.Quote(value)
}

func idText(id *int) string {
	if id == nil {
		return ""
	}
	return strconv.Itoa(*id)
}
