package gluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/glustervol/glustervol/gluster/gfapi"
)

// Graph is how a client reaches a Gluster volume: the translators of the volume file
// that the servers have given to it, those next to the bricks first. It tells what no
// node without glusterd could ask for: the bricks, how they are replicated, and each
// option that is not the default.
type Graph []Translator

// Translator is a part of a Graph.
type Translator struct {
	Name string `json:"name"`
	// Type is "protocol/client" for what reaches a brick, "cluster/replicate", and so on.
	Type string `json:"type"`
	// Options are as the volume file has them, without the credentials that the bricks
	// are shown: nobody has to see those.
	Options map[string]string `json:"options,omitempty"`
	// Subvolumes are the names of the translators below.
	Subvolumes []string `json:"subvolumes,omitempty"`
	// Connected tells whether the brick of a protocol/client is reached, if that is known.
	Connected *bool `json:"connected,omitempty"`
}

// ClientType is the Translator.Type of what reaches a brick.
const ClientType = "protocol/client"

// secrets are the options of a volume file that let who has them write to the bricks.
var secrets = []string{"username", "password"}

// errNoGraph says that glfs_init has not returned, or that no server has answered it.
var errNoGraph = errors.New("no server has given it yet, or the bricks hang")

// ParseVolfile reads a volume file (graph.y in glusterfs): sections from "volume NAME"
// to "end-volume".
func ParseVolfile(r io.Reader) (Graph, error) {
	var g Graph
	var current *Translator
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		key, rest, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		rest = strings.TrimSpace(rest)
		switch {
		case key == "" || strings.HasPrefix(key, "#"):
		case key == "volume" && current == nil:
			current = &Translator{Name: rest, Options: map[string]string{}}
		case current == nil:
			return nil, fmt.Errorf("volume file, line %d: %q stands outside of a volume", number, key)
		case key == "end-volume":
			g, current = append(g, *current), nil
		default:
			if err := current.set(key, rest); err != nil {
				return nil, fmt.Errorf("volume file, line %d: %w", number, err)
			}
		}
	}
	if current != nil {
		return nil, fmt.Errorf("volume file: volume %s breaks off", current.Name)
	}
	return g, lines.Err()
}

func (t *Translator) set(key, value string) error {
	switch key {
	case "type":
		t.Type = value
	case "subvolumes":
		t.Subvolumes = strings.Fields(value)
	case "option":
		name, setting, _ := strings.Cut(value, " ")
		if !slices.Contains(secrets, name) {
			t.Options[name] = strings.Trim(strings.TrimSpace(setting), `"`)
		}
	default:
		return fmt.Errorf("there is no keyword %q", key)
	}
	return nil
}

// String writes the graph as a volume file.
func (g Graph) String() string {
	var b strings.Builder
	for _, t := range g {
		fmt.Fprintf(&b, "volume %s\n    type %s\n", t.Name, t.Type)
		for _, key := range slices.Sorted(maps.Keys(t.Options)) {
			fmt.Fprintf(&b, "    option %s %s\n", key, t.Options[key])
		}
		if t.Connected != nil {
			fmt.Fprintf(&b, "    # connected: %t\n", *t.Connected)
		}
		if len(t.Subvolumes) > 0 {
			fmt.Fprintf(&b, "    subvolumes %s\n", strings.Join(t.Subvolumes, " "))
		}
		b.WriteString("end-volume\n\n")
	}
	return b.String()
}

// VolumeName is the Gluster volume's name, which the last of its translators has.
func (g Graph) VolumeName() string {
	if stats := g.OfType("debug/io-stats"); len(stats) > 0 {
		return stats[len(stats)-1].Name
	}
	return "VOLUME"
}

// OfType are the translators of a type.
func (g Graph) OfType(kind string) (list []Translator) {
	for _, t := range g {
		if t.Type == kind {
			list = append(list, t)
		}
	}
	return list
}

// metaFile is what a client tells of a translator's state, below .meta.
func metaFile(translator string) string {
	return path.Join("graphs/active", translator, "private")
}

// noteConnected notes which bricks are reached. read reads a file below .meta; what it
// cannot read is not known.
func (g Graph) noteConnected(read func(name string) ([]byte, error)) {
	for i, t := range g {
		if t.Type != ClientType {
			continue
		}
		text, err := read(metaFile(t.Name))
		for line := range strings.Lines(string(text)) {
			key, value, found := strings.Cut(line, "=")
			if err == nil && found && strings.TrimSpace(key) == "connected" {
				connected := strings.TrimSpace(value) == "1"
				g[i].Connected = &connected
			}
		}
	}
}

// Graph is what the mount's client has, which answers below .meta without its bricks. d
// has to be the root of the mount.
func (d *Dir) Graph(ctx context.Context) (Graph, error) {
	read := func(name string) ([]byte, error) {
		return call(ctx, d.calls, "read", name, func() ([]byte, error) { return d.root.ReadFile(path.Join(".meta", name)) })
	}
	text, err := read("graphs/active/volfile")
	if err != nil {
		return nil, err
	}
	g, err := ParseVolfile(strings.NewReader(string(text)))
	g.noteConnected(read)
	return g, err
}

// Graph is what libgfapi has got from the servers. It is known as soon as one of them
// has answered, also while no brick does; Connect has to have been called.
func (a *API) Graph(ctx context.Context) (Graph, error) {
	return call(ctx, a.graphCalls, "read the volume file", a.address.String(), func() (Graph, error) {
		volume := a.initialised.Load()
		if volume == nil {
			return nil, errNoGraph
		}
		text, err := volume.Volfile()
		if err != nil {
			return nil, err
		}
		if text == "" {
			return nil, errNoGraph
		}
		g, err := ParseVolfile(strings.NewReader(text))
		g.noteConnected(func(name string) ([]byte, error) { return readMeta(volume, name) })
		return g, err
	})
}

func readMeta(volume *gfapi.Volume, name string) ([]byte, error) {
	f, err := volume.Meta(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFileSize))
	return data, errors.Join(err, f.Close())
}
