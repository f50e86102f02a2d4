package gluster_test

import (
	"io/fs"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/glustervol/glustervol/gluster"
)

func TestParseAddress(t *testing.T) {
	tests := []struct {
		doc     string
		address string
		want    gluster.Address
		text    string // of want, if it is not address
	}{
		{
			doc:     "one server",
			address: "gfs1:/gv0",
			want:    gluster.Address{Servers: []string{"gfs1"}, Volume: "gv0"},
		},
		{
			doc:     "several servers, in their order",
			address: "gfs2,gfs1.example.org,192.0.2.7:/gv0",
			want:    gluster.Address{Servers: []string{"gfs2", "gfs1.example.org", "192.0.2.7"}, Volume: "gv0"},
		},
		{
			doc:     "a directory",
			address: "gfs1:/gv0/some/dir",
			want:    gluster.Address{Servers: []string{"gfs1"}, Volume: "gv0", Subdir: "some/dir"},
		},
		{
			doc:     "without the slash, as gluster writes it",
			address: "gfs1:gv0/some",
			want:    gluster.Address{Servers: []string{"gfs1"}, Volume: "gv0", Subdir: "some"},
			text:    "gfs1:/gv0/some",
		},
		{
			doc:     "slashes behind the volume",
			address: "gfs1:/gv0//",
			want:    gluster.Address{Servers: []string{"gfs1"}, Volume: "gv0"},
			text:    "gfs1:/gv0",
		},
		{
			doc:     "slashes behind the directory",
			address: "gfs1:/gv0/some/dir//",
			want:    gluster.Address{Servers: []string{"gfs1"}, Volume: "gv0", Subdir: "some/dir"},
			text:    "gfs1:/gv0/some/dir",
		},
		{
			doc:     "IPv6",
			address: "[fd00::2]:/gv0",
			want:    gluster.Address{Servers: []string{"fd00::2"}, Volume: "gv0"},
		},
		{
			doc:     "IPv6 between names",
			address: "gfs1,[fd00::2],gfs3:/gv0",
			want:    gluster.Address{Servers: []string{"gfs1", "fd00::2", "gfs3"}, Volume: "gv0"},
		},
		{
			doc:     "IPv6 with a zone",
			address: "[fe80::1%eth0.7]:/gv0",
			want:    gluster.Address{Servers: []string{"fe80::1%eth0.7"}, Volume: "gv0"},
		},
		{
			doc:     "IPv6 that is spelled out",
			address: "[FD00:0::0:2]:/gv0",
			want:    gluster.Address{Servers: []string{"fd00::2"}, Volume: "gv0"},
			text:    "[fd00::2]:/gv0",
		},
		{
			doc:     "a host name with a dot at its end and with underscores",
			address: "gfs_1.example.org.:/gv_0-a",
			want:    gluster.Address{Servers: []string{"gfs_1.example.org."}, Volume: "gv_0-a"},
		},
		{
			doc:     "a directory with spaces, commas and letters of any script",
			address: "gfs1:/gv0/a b,c/Größe:[1]/文件/-x",
			want:    gluster.Address{Servers: []string{"gfs1"}, Volume: "gv0", Subdir: "a b,c/Größe:[1]/文件/-x"},
		},
		{
			doc:     "a part as long as a file name can be",
			address: "gfs1:/gv0/" + strings.Repeat("x", 255),
			want:    gluster.Address{Servers: []string{"gfs1"}, Volume: "gv0", Subdir: strings.Repeat("x", 255)},
		},
		{
			doc:     "a volume's name as long as Gluster allows",
			address: "gfs1:/" + strings.Repeat("v", 255),
			want:    gluster.Address{Servers: []string{"gfs1"}, Volume: strings.Repeat("v", 255)},
		},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			got, err := gluster.ParseAddress(tt.address)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if tt.text == "" {
				tt.text = tt.address
			}
			if text := got.String(); text != tt.text {
				t.Errorf("written as %q, want %q", text, tt.text)
			}
		})
	}
}

func TestParseAddressRefuses(t *testing.T) {
	tests := []struct {
		doc     string
		address string
		names   string // what the error has to name
	}{
		{doc: "nothing", address: "", names: "no colon"},
		{doc: "a path alone", address: "/gv0", names: "no colon"},
		{doc: "no volume", address: "gfs1:", names: `"" is not a Gluster volume`},
		{doc: "no volume behind the slash", address: "gfs1:/", names: `"" is not a Gluster volume`},
		{doc: "two slashes", address: "gfs1://gv0", names: `"" is not a Gluster volume`},
		{doc: "no server", address: ":/gv0", names: `"" is not a host name`},
		{doc: "an empty server between two", address: "gfs1,,gfs2:/gv0", names: `"" is not a host name`},
		{doc: "a comma at the end of the servers", address: "gfs1,:/gv0", names: `"" is not a host name`},
		{doc: "a space behind the comma", address: "gfs1, gfs2:/gv0", names: `" gfs2"`},
		{doc: "an option as a server", address: "--log-file=x:/gv0", names: "--log-file=x"},
		{doc: "a dash in front of a server", address: "gfs1,-gfs2:/gv0", names: `"-gfs2"`},
		{doc: "a server of dots", address: "..:/gv0", names: `".."`},
		{doc: "a slash in a server", address: "gfs1/x:/gv0", names: `"gfs1/x"`},
		{doc: "a NUL in a server", address: "gfs\x001:/gv0", names: `"gfs\x001"`},
		{doc: "a line feed behind a server", address: "gfs1\n:/gv0", names: `"gfs1\n"`},
		{doc: "letters that DNS does not have", address: "größe:/gv0", names: `"größe"`},
		{doc: "300 bytes of server", address: strings.Repeat("x", 300) + ":/gv0", names: "not a host name"},
		{doc: "the same server twice", address: "gfs1,gfs2,gfs1:/gv0", names: `"gfs1" is named twice`},
		{doc: "the same IPv6 address twice", address: "[fd00::2],[fd00:0::2]:/gv0", names: `"fd00::2" is named twice`},
		{doc: "IPv6 without brackets", address: "fd00::2:/gv0", names: "gv0"},
		{doc: "IPv6 without brackets, behind a comma", address: "gfs1,::1:/gv0", names: "brackets"},
		{doc: "IPv4 in brackets", address: "[192.0.2.7]:/gv0", names: `"192.0.2.7"`},
		{doc: "a name in brackets", address: "[gfs1]:/gv0", names: `"gfs1"`},
		{doc: "a bracket that is not closed", address: "[fd00::2:/gv0", names: "brackets"},
		{doc: "nothing behind the bracket", address: "[fd00::2]", names: "brackets"},
		{doc: "something behind the bracket", address: "[fd00::2]x:/gv0", names: "brackets"},
		{doc: "a zone with a slash", address: "[fe80::1%../x]:/gv0", names: "zone"},
		{doc: "a zone with a NUL", address: "[fe80::1%e\x00]:/gv0", names: "zone"},
		{doc: "an empty zone", address: "[fe80::1%]:/gv0", names: "fe80::1%"},
		{doc: "a dot in the volume's name", address: "gfs1:/gv.0", names: `"gv.0"`},
		{doc: "dots as the volume", address: "gfs1:/../gv0", names: `".."`},
		{doc: "a dash in front of the volume", address: "gfs1:/-gv0", names: `"-gv0"`},
		{doc: "a space in the volume's name", address: "gfs1:/gv 0", names: `"gv 0"`},
		{doc: "a comma in the volume's name", address: "gfs1:/gv0,ro", names: `"gv0,ro"`},
		{doc: "a line feed behind the volume", address: "gfs1:/gv0\n", names: `"gv0\n"`},
		{doc: "300 bytes of volume", address: "gfs1:/" + strings.Repeat("v", 300), names: "not a Gluster volume"},
		{doc: "a port", address: "gfs1:24007:/gv0", names: `"24007:"`},
		{doc: "dots in the directory", address: "gfs1:/gv0/a/../../b", names: `".."`},
		{doc: "a dot in the directory", address: "gfs1:/gv0/./b", names: `"."`},
		{doc: "an empty part in the directory", address: "gfs1:/gv0/a//b", names: "empty part"},
		{doc: "an empty part in front of the directory", address: "gfs1:/gv0//b", names: "slash"},
		{doc: "a NUL in the directory", address: "gfs1:/gv0/a\x00b", names: "unprintable"},
		{doc: "a control character in the directory", address: "gfs1:/gv0/a\x1b[1m", names: "unprintable"},
		{doc: "300 bytes of one part", address: "gfs1:/gv0/" + strings.Repeat("x", 300), names: "300 bytes"},
		{doc: "5,000 bytes of directory", address: "gfs1:/gv0/" + strings.Repeat("xxxx/", 1000) + "x", names: "5001 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			got, err := gluster.ParseAddress(tt.address)
			if err == nil {
				t.Fatalf("was read as %+v", got)
			}
			if !strings.Contains(err.Error(), tt.names) {
				t.Errorf("error %q does not name %s", err, tt.names)
			}
			if strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("error %q has a control character in it", err)
			}
		})
	}
}

func TestOverlaps(t *testing.T) {
	tests := []struct {
		doc  string
		a, b string
		want bool
	}{
		{doc: "the same", a: "gfs1:/gv0", b: "gfs1:/gv0", want: true},
		{doc: "the same by other servers", a: "gfs1:/gv0/d", b: "gfs2,gfs3:/gv0/d", want: true},
		{doc: "one inside the other", a: "gfs1:/gv0", b: "gfs1:/gv0/d/e", want: true},
		{doc: "one inside the other's directory", a: "gfs1:/gv0/d", b: "gfs1:/gv0/d/e", want: true},
		{doc: "neighbours", a: "gfs1:/gv0/d", b: "gfs1:/gv0/e", want: false},
		{doc: "a name that another begins with", a: "gfs1:/gv0/d", b: "gfs1:/gv0/dd", want: false},
		{doc: "other volumes", a: "gfs1:/gv0", b: "gfs1:/gv1", want: false},
		{doc: "other volumes with equal directories", a: "gfs1:/gv0/d", b: "gfs1:/gv1/d", want: false},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			a, b := parse(t, tt.a), parse(t, tt.b)
			if got := a.Overlaps(b); got != tt.want {
				t.Errorf("%s and %s: %v, want %v", a, b, got, tt.want)
			}
			if got := b.Overlaps(a); got != tt.want {
				t.Errorf("%s and %s: %v, want %v", b, a, got, tt.want)
			}
		})
	}
}

func parse(t *testing.T, s string) gluster.Address {
	t.Helper()
	a, err := gluster.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestPathWithin(t *testing.T) {
	tests := []struct {
		doc    string
		p, dir string
		want   bool
	}{
		{doc: "the root in itself", p: "", dir: "", want: true},
		{doc: "anything in the root", p: "a/b", dir: "", want: true},
		{doc: "itself", p: "a/b", dir: "a/b", want: true},
		{doc: "inside", p: "a/b/c", dir: "a/b", want: true},
		{doc: "above", p: "a", dir: "a/b", want: false},
		{doc: "the root in a directory", p: "", dir: "a", want: false},
		{doc: "a longer name", p: "ab", dir: "a", want: false},
		{doc: "elsewhere", p: "b/a", dir: "a", want: false},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			if got := gluster.PathWithin(tt.p, tt.dir); got != tt.want {
				t.Errorf("%q in %q: %v, want %v", tt.p, tt.dir, got, tt.want)
			}
		})
	}
}

func TestCheckPath(t *testing.T) {
	tests := []struct {
		doc  string
		path string
		ok   bool
	}{
		{doc: "a name", path: "a", ok: true},
		{doc: "several", path: "a/b/c", ok: true},
		{doc: "spaces, commas, quotes", path: "a b/c,d/'\"", ok: true},
		{doc: "dots in names", path: ".a/b../...", ok: true},
		{doc: "a dash in front", path: "-rf", ok: true},
		{doc: "letters of any script", path: "é/文", ok: true},
		{doc: "255 bytes of name", path: strings.Repeat("x", 255), ok: true},
		{doc: "nothing", path: ""},
		{doc: "absolute", path: "/a"},
		{doc: "a slash at the end", path: "a/"},
		{doc: "an empty part", path: "a//b"},
		{doc: "a dot", path: "a/."},
		{doc: "dots", path: ".."},
		{doc: "dots inside", path: "a/../b"},
		{doc: "a NUL", path: "a\x00"},
		{doc: "a line feed", path: "a\nb"},
		{doc: "an escape", path: "\x1b"},
		{doc: "a delete", path: "a\x7f"},
		{doc: "bytes that are no UTF-8", path: "a\xff"},
		{doc: "a mark that turns the text's order", path: "a\u202eb"},
		{doc: "a space that is not to be seen", path: "a\u200bb"},
		{doc: "a line separator", path: "a\u2028b"},
		{doc: "256 bytes of name", path: strings.Repeat("x", 256)},
		{doc: "more bytes than a path can have", path: strings.Repeat("xxxx/", 900) + "x"},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			err := gluster.CheckPath(tt.path)
			if (err == nil) != tt.ok {
				t.Errorf("CheckPath(%q) = %v", tt.path, err)
			}
		})
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{
		"gfs1:/gv0", "gfs1,gfs2:/gv0/some/dir", "gfs1,[fd00::2]:/gv0", "[fe80::1%eth0]:gv0//", "::1:/gv0",
		"[::ffff:192.0.2.1]:/gv0", "gfs1:/gv0/../x", "-x:/-y/-z", "gfs1:/gv0/a b,c", "gfs1\x00:/gv0/\x1b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := gluster.ParseAddress(s)
		if err != nil {
			return
		}
		again, err := gluster.ParseAddress(a.String())
		if err != nil || !reflect.DeepEqual(again, a) {
			t.Errorf("%q is %+v; written and read again it is %+v, %v", s, a, again, err)
		}
		for _, part := range append(a.Servers, a.Volume) {
			if part == "" || part[0] == '-' || strings.Contains(part, "..") || strings.ContainsFunc(part, outOfPlace) {
				t.Errorf("%q has the part %q", s, part)
			}
		}
		if a.Subdir != "" {
			checkPath(t, a.Subdir)
		}
	})
}

// outOfPlace has what must not be in the name of a server or a Gluster volume,
// since a list, a path or a person would read it as something else.
func outOfPlace(r rune) bool {
	return strings.ContainsRune("/,[] =@'\"`$\\", r) || !unicode.IsPrint(r)
}

func FuzzCheckPath(f *testing.F) {
	for _, seed := range []string{"a", "a/b", "a//b", "/a", "a/..", "a\x00b", "a\xff", "\u202e", strings.Repeat("x", 300)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if gluster.CheckPath(p) == nil {
			checkPath(t, p)
		}
	})
}

// checkPath says by other means than CheckPath what is wrong with a path.
func checkPath(t *testing.T, p string) {
	t.Helper()
	if p == "." || !fs.ValidPath(p) || !filepath.IsLocal(p) || path.Clean(p) != p || len(p) > 4095 {
		t.Errorf("path %q is not clean and local", p)
	}
	if !utf8.ValidString(p) || strings.ContainsFunc(p, unicode.IsControl) {
		t.Errorf("path %q is not printable", p)
	}
	for part := range strings.SplitSeq(p, "/") {
		if len(part) > 255 {
			t.Errorf("path %q has a part of %d bytes", p, len(part))
		}
	}
}
