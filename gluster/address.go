package gluster

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Address names a directory on a Gluster volume, written the way
// mount.glusterfs(8) writes it: "gfs1,gfs2:/gv0" or "gfs1,[fd00::2]:/gv0/some/dir".
type Address struct {
	// Servers are the hosts that can hand out the volume file, in the order in
	// which a client asks them: host names or IP addresses, IPv6 without
	// brackets and in the shortest form.
	Servers []string
	// Volume is the Gluster volume's name.
	Volume string
	// Subdir is the directory on the Gluster volume, clean, without a leading
	// slash; "" is the root.
	Subdir string
}

// addressForm is what every error about an address ends with.
const addressForm = "write SERVER[,SERVER...]:/VOLUME[/DIRECTORY], for example gfs1,gfs2,gfs3:/gv0"

var (
	// RFC 1123, section 2.1; the underscore is not in it, but people use it.
	hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*\.?$`)
	// What 'gluster volume create' takes (cli-cmd-parser.c).
	volumeName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,254}$`)
)

// ParseAddress reads an address. The error names the part that is wrong.
func ParseAddress(s string) (Address, error) {
	servers, rest, err := splitServers(s)
	if err != nil {
		return Address{}, fmt.Errorf("store address %q: %w; %s", s, err, addressForm)
	}
	volume, subdir, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	if !volumeName.MatchString(volume) {
		return Address{}, fmt.Errorf("store address %q: %q is not a Gluster volume's name; %s", s, volume, addressForm)
	}
	if subdir = strings.TrimRight(subdir, "/"); subdir != "" {
		if err := CheckPath(subdir); err != nil {
			return Address{}, fmt.Errorf("store address %q: %w", s, err)
		}
	}
	return Address{Servers: servers, Volume: volume, Subdir: subdir}, nil
}

// splitServers reads the list of servers up to the colon that ends it.
func splitServers(s string) (servers []string, rest string, err error) {
	for {
		var server string
		server, rest, err = nextServer(s)
		if err != nil {
			return nil, "", err
		}
		if slices.Contains(servers, server) {
			return nil, "", fmt.Errorf("server %q is named twice", server)
		}
		servers = append(servers, server)
		if rest[0] == ':' {
			return servers, rest[1:], nil
		}
		s = rest[1:]
	}
}

// nextServer reads one server; rest begins with the ',' or ':' behind it.
func nextServer(s string) (server, rest string, err error) {
	if strings.HasPrefix(s, "[") {
		return nextIPv6(s)
	}
	end := strings.IndexAny(s, ",:")
	if end < 0 {
		return "", "", errors.New("no colon behind the servers")
	}
	server, rest = s[:end], s[end:]
	if len(server) > 253 || !hostName.MatchString(server) {
		return "", "", fmt.Errorf("%q is not a host name or an IP address (IPv6 addresses stand in brackets)", server)
	}
	return server, rest, nil
}

func nextIPv6(s string) (server, rest string, err error) {
	server, rest, found := strings.Cut(s[1:], "]")
	if !found || rest == "" || (rest[0] != ',' && rest[0] != ':') {
		return "", "", errors.New("an IPv6 address stands in brackets, with a comma or a colon behind them")
	}
	ip, err := netip.ParseAddr(server)
	if err != nil || !ip.Is6() {
		return "", "", fmt.Errorf("%q is not an IPv6 address", server)
	}
	if strings.ContainsFunc(ip.Zone(), func(r rune) bool { return !strings.ContainsRune(zoneLetters, r) }) {
		return "", "", fmt.Errorf("%q has an odd zone", server)
	}
	return ip.String(), rest, nil
}

const zoneLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// String writes the address so that ParseAddress reads the same one.
func (a Address) String() string {
	var b strings.Builder
	for i, server := range a.Servers {
		if i > 0 {
			b.WriteByte(',')
		}
		if strings.Contains(server, ":") {
			server = "[" + server + "]"
		}
		b.WriteString(server)
	}
	b.WriteString(":/")
	b.WriteString(a.Volume)
	if a.Subdir != "" {
		b.WriteByte('/')
		b.WriteString(a.Subdir)
	}
	return b.String()
}

// Overlaps reports whether two stores share files: one is the other or lies
// inside it. The servers do not count: a Gluster volume has many.
func (a Address) Overlaps(b Address) bool {
	return a.Volume == b.Volume && (PathWithin(a.Subdir, b.Subdir) || PathWithin(b.Subdir, a.Subdir))
}

// PathWithin reports whether the clean relative path p is dir or lies inside
// it; "" is the root, which everything lies inside.
func PathWithin(p, dir string) bool {
	return dir == "" || p == dir || strings.HasPrefix(p, dir+"/")
}

// CheckPath says what is wrong with a path below a store's root, if anything:
// it has to be relative, clean, printable and without "." and "..".
func CheckPath(p string) error {
	switch {
	case p == "":
		return errors.New("the path is empty")
	case len(p) > 4000:
		return fmt.Errorf("the path has %d bytes, 4000 are allowed", len(p))
	case strings.HasPrefix(p, "/"):
		return fmt.Errorf("path %q begins with a slash; it is relative to the store's root", p)
	}
	for part := range strings.SplitSeq(p, "/") {
		switch {
		case part == "":
			return fmt.Errorf("path %q has an empty part", p)
		case part == "." || part == "..":
			return fmt.Errorf("path %q has %q in it", p, part)
		case len(part) > 255:
			return fmt.Errorf("path %q has a part of %d bytes, 255 are allowed", p, len(part))
		case strings.ContainsFunc(part, unprintable):
			return fmt.Errorf("path %q has an unprintable character in it", p)
		}
	}
	return nil
}
