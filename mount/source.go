package mount

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/glustervol/glustervol/gluster/client"
)

// Source is what a client mounts, and how. Sources that are equal share a client.
type Source struct {
	// Servers are asked for the volume file in this order: host names or IP
	// addresses, IPv6 without brackets.
	Servers []string `json:"servers"`
	// Volume is the Gluster volume's name.
	Volume string `json:"volume"`
	// Subdir is the directory of the Gluster volume to mount, without a leading
	// slash; "" is its root.
	Subdir string `json:"subdir,omitempty"`
	// Options are the client's options.
	Options Options `json:"options,omitempty"`
	// Fresh has the client itself remember no attributes, as the kernel's options have
	// the kernel: else it knows for a second what another node has moved away.
	Fresh bool `json:"fresh,omitempty"`
}

// keyVolume is how much of a Gluster volume's name stands in a key. Gluster
// allows 255 bytes, which is all that a file name can have.
const keyVolume = 64

// Key names the client of s on this node: the Gluster volume, for the eye, and
// a hash of all of s. It is a valid file name.
func (s Source) Key() string {
	parts := []string{strings.Join(s.Servers, ","), s.Volume, s.Subdir, string(s.Options)}
	if s.Fresh {
		parts = append(parts, "fresh")
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return s.Volume[:min(len(s.Volume), keyVolume)] + "-" + hex.EncodeToString(sum[:4])
}

// String writes s as mount.glusterfs(8) does, the options left out.
func (s Source) String() string { return s.target().String() }

// remote is how the kernel's mount table ends a source, behind the server.
func (s Source) remote() string { return strings.TrimPrefix(s.String(), strings.Join(s.Servers, ",")) }

func (s Source) target() client.Target {
	return client.Target{Servers: s.Servers, Volume: s.Volume, Subdir: s.Subdir, Options: string(s.Options)}
}

// args are the arguments of glusterfs(8) that mount s on mountPoint, in the
// foreground. They are what the script mount.glusterfs would come to, without
// the shell between that splits at spaces and commas.
func (s Source) args(mountPoint, logFile string) []string {
	args := []string{"--no-daemon", "--process-name=fuse"}
	for _, server := range s.Servers {
		args = append(args, "--volfile-server="+server)
	}
	args = append(args, "--volfile-id=/"+s.Volume, "--log-file="+logFile)
	if s.Subdir != "" {
		args = append(args, "--subdir-mount=/"+s.Subdir)
	}
	if !s.Options.has("log-level") {
		args = append(args, "--log-level=WARNING")
	}
	if s.Fresh { // the only one of its kind: Gluster 10.3 heeds the last
		args = append(args, "--xlator-option=*-md-cache.md-cache-timeout=0")
	}
	args = append(args, s.Options.args()...)
	return append(args, mountPoint)
}
