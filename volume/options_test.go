package volume

import (
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

func TestParseOptions(t *testing.T) {
	tests := []struct {
		doc     string
		options map[string]string
		want    Request
	}{
		{doc: "no map at all, as Docker sends it", options: nil, want: Request{Empty: true}},
		{doc: "an empty map", options: map[string]string{}, want: Request{Empty: true}},
		{
			doc: "all of them",
			options: map[string]string{
				"adopt": "true", "client-options": "noatime,ro", "gid": "0", "mode": "0750", "on-remove": "retain",
				"path": "srv/www", "store": "gfs1:/gv0", "uid": "999",
			},
			want: Request{
				Options: Options{
					Path: "srv/www", UID: new(999), GID: new(0), Mode: "0750", OnRemove: Retain, ClientOptions: "noatime,ro",
				},
				Store: "gfs1:/gv0",
				Adopt: true,
			},
		},
		{doc: "the largest id", options: map[string]string{"uid": "4294967294"}, want: Request{Options: Options{UID: new(4294967294)}}},
		{doc: "a mode of three digits", options: map[string]string{"mode": "750"}, want: Request{Options: Options{Mode: "0750"}}},
		{doc: "a mode with zeros in front", options: map[string]string{"mode": "00000755"}, want: Request{Options: Options{Mode: "0755"}}},
		{doc: "sticky", options: map[string]string{"mode": "01777"}, want: Request{Options: Options{Mode: "1777"}}},
		{doc: "setgid", options: map[string]string{"mode": "2775"}, want: Request{Options: Options{Mode: "2775"}}},
		{doc: "a path with slashes around it", options: map[string]string{"path": "//srv/www/"}, want: Request{Options: Options{Path: "srv/www"}}},
		{doc: "a path with spaces and commas", options: map[string]string{"path": "srv/my www,old"}, want: Request{Options: Options{Path: "srv/my www,old"}}},
		{doc: "a path that begins like the driver's own", options: map[string]string{"path": "volumes2/x"}, want: Request{Options: Options{Path: "volumes2/x"}}},
		{doc: "a path with the driver's names further in", options: map[string]string{"path": "a/volumes/.glustervol"}, want: Request{Options: Options{Path: "a/volumes/.glustervol"}}},
		{doc: "a path that stays when the volume goes", options: map[string]string{"path": "srv", "on-remove": "retain"}, want: Request{Options: Options{Path: "srv", OnRemove: Retain}}},
		{doc: "on-remove=delete", options: map[string]string{"on-remove": "delete"}, want: Request{Options: Options{OnRemove: Delete}}},
		{doc: "adopt without a value", options: map[string]string{"adopt": ""}, want: Request{Adopt: true}},
		{doc: "adopt=false", options: map[string]string{"adopt": "false"}, want: Request{}},
		{doc: "client options in another order and form", options: map[string]string{"client-options": "ro,,lru-limit=007,acl"}, want: Request{Options: Options{ClientOptions: "acl,lru-limit=7,ro"}}},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			got, err := ParseOptions(tt.options)
			must(t, err)
			if tt.want.OnRemove == "" {
				tt.want.OnRemove = Trash
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestParseOptionsRefuses(t *testing.T) {
	tests := []struct {
		doc     string
		options map[string]string
		want    string // in the error
	}{
		{
			doc: "an unknown option", options: map[string]string{"size": "1G", "uid": "1"},
			want: `option "size" is not one of adopt, client-options, gid, mode, on-remove, path, store, uid`,
		},
		{doc: "capitals", options: map[string]string{"UID": "1"}, want: `"UID" is not one of`},
		{doc: "an option without a name", options: map[string]string{"": "x"}, want: `"" is not one of`},
		{doc: "a name with a control character", options: map[string]string{"u\x1b": "x"}, want: `"u\x1b" is not one of`},
		{doc: "a user's name", options: map[string]string{"uid": "www-data"}, want: `option uid: "www-data" is not a numeric id`},
		{doc: "a group's name", options: map[string]string{"gid": "docker"}, want: `option gid: "docker" is not a numeric id`},
		{doc: "no uid", options: map[string]string{"uid": ""}, want: `uid: "" is not`},
		{doc: "a negative uid", options: map[string]string{"uid": "-1"}, want: `uid: "-1" is not`},
		{doc: "a uid with a sign", options: map[string]string{"uid": "+1"}, want: `uid: "+1" is not`},
		{doc: "a uid with a space", options: map[string]string{"uid": " 1"}, want: `uid: " 1" is not`},
		{doc: "a uid in hexadecimal", options: map[string]string{"uid": "0x10"}, want: `uid: "0x10" is not`},
		{doc: "user and group in one", options: map[string]string{"uid": "1:1"}, want: `uid: "1:1" is not`},
		{doc: "chown's word for leaving it", options: map[string]string{"uid": "4294967295"}, want: `uid: "4294967295" is not`},
		{doc: "a gid that has 33 bits", options: map[string]string{"gid": "4294967296"}, want: `gid: "4294967296" is not`},
		{doc: "no mode", options: map[string]string{"mode": ""}, want: `mode: "" is not a directory's mode in octal`},
		{doc: "a mode with the digit 8", options: map[string]string{"mode": "0788"}, want: `mode: "0788" is not`},
		{doc: "a mode with the digit 9", options: map[string]string{"mode": "0999"}, want: `mode: "0999" is not`},
		{doc: "a mode of letters", options: map[string]string{"mode": "u+rwx"}, want: `mode: "u+rwx" is not`},
		{doc: "a mode as Go writes it", options: map[string]string{"mode": "0o755"}, want: `mode: "0o755" is not`},
		{doc: "a negative mode", options: map[string]string{"mode": "-755"}, want: `mode: "-755" is not`},
		{doc: "setuid", options: map[string]string{"mode": "4755"}, want: `mode: "4755" is not`},
		{doc: "a mode of too many bits", options: map[string]string{"mode": "10755"}, want: `mode: "10755" is not`},
		{doc: "no path", options: map[string]string{"path": ""}, want: "path: the path is empty"},
		{doc: "the store's root", options: map[string]string{"path": "/"}, want: "path: the path is empty"},
		{doc: "the directory itself", options: map[string]string{"path": "."}, want: `path: path "."`},
		{doc: "the way out", options: map[string]string{"path": ".."}, want: `path: path ".."`},
		{doc: "a way out inside", options: map[string]string{"path": "a/../../b"}, want: `has ".." in it`},
		{doc: "two slashes", options: map[string]string{"path": "a//b"}, want: "empty part"},
		{doc: "a NUL", options: map[string]string{"path": "a\x00b"}, want: "unprintable"},
		{doc: "a control character", options: map[string]string{"path": "a\rb"}, want: "unprintable"},
		{doc: "a part of 300 bytes", options: map[string]string{"path": strings.Repeat("x", 300)}, want: "300 bytes"},
		{doc: "the driver's directory of volumes", options: map[string]string{"path": "volumes"}, want: `"volumes" lies where glustervol keeps its own`},
		{doc: "another volume's directory", options: map[string]string{"path": "/volumes/db"}, want: `"volumes/db" lies where`},
		{doc: "the catalog", options: map[string]string{"path": ".glustervol"}, want: `".glustervol" lies where`},
		{doc: "inside the catalog", options: map[string]string{"path": ".glustervol/trash/"}, want: `".glustervol/trash" lies where`},
		{doc: "a path that is to be deleted", options: map[string]string{"path": "srv", "on-remove": "delete"}, want: "path and on-remove=delete do not go together"},
		{doc: "no on-remove", options: map[string]string{"on-remove": ""}, want: `"" is not one of trash, delete, retain`},
		{doc: "another on-remove", options: map[string]string{"on-remove": "Delete"}, want: `"Delete" is not one of trash, delete, retain`},
		{doc: "adopt=maybe", options: map[string]string{"adopt": "maybe"}, want: `adopt: "maybe" is neither true nor false`},
		{doc: "an unknown client option", options: map[string]string{"client-options": "ro,log-file=/etc/passwd"}, want: `client-options: client option "log-file" is not one of`},
		{doc: "client options with a space", options: map[string]string{"client-options": "ro, acl"}, want: `" acl"`},
		{doc: "an argument in a client option", options: map[string]string{"client-options": "lru-limit=1 --volfile-server=evil"}, want: "takes a whole number"},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			got, err := ParseOptions(tt.options)
			if err == nil {
				t.Fatalf("was read as %+v", got)
			}
			wantText(t, err, tt.want)
			if strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("error %q has a control character in it", err)
			}
		})
	}
}

func TestFileMode(t *testing.T) {
	tests := []struct {
		doc  string
		mode string
		want fs.FileMode
	}{
		{doc: "none asked for", mode: "", want: 0o123},
		{doc: "permissions", mode: "0750", want: 0o750},
		{doc: "no permission at all", mode: "0000", want: 0},
		{doc: "sticky", mode: "1777", want: 0o777 | fs.ModeSticky},
		{doc: "setgid", mode: "2770", want: 0o770 | fs.ModeSetgid},
		{doc: "both", mode: "3770", want: 0o770 | fs.ModeSetgid | fs.ModeSticky},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			if got := (Options{Mode: tt.mode}).fileMode(0o123); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// FuzzParseOptions has the options of a volume, as they are kept, stand for
// themselves and lead nowhere else.
func FuzzParseOptions(f *testing.F) {
	f.Add("srv/www", "0750", "999", "0", "retain", "ro,noatime")
	f.Add("/a b,c/", "1777", "00", "4294967294", "trash", "lru-limit=007,acl")
	f.Add("../x", "4755", "-1", "root", "", "log-file=/x")
	f.Add(".glustervol//trash", "0", "", " 1", "delete", "ro=\x00")
	f.Add("volumes/db", "07777777777777777777777", "1e3", "0x1", "x", "ro --x")
	f.Fuzz(func(t *testing.T, path, mode, uid, gid, onRemove, client string) {
		options := map[string]string{}
		for key, value := range map[string]string{"path": path, "mode": mode, "uid": uid, "gid": gid, "on-remove": onRemove, "client-options": client} {
			if value != "" {
				options[key] = value
			}
		}
		r, err := ParseOptions(options)
		if err != nil {
			return
		}
		checkOptions(t, r.Options)
		again, err := ParseOptions(r.Options.request())
		if err != nil || !reflect.DeepEqual(again.Options, r.Options) {
			t.Errorf("%q is %+v; asked for again it is %+v, %v", options, r.Options, again.Options, err)
		}
		if list := r.Options.differences(again.Options); len(list) > 0 {
			t.Errorf("%q differs from itself: %q", options, list)
		}
	})
}

// checkOptions says by other means than ParseOptions what options must not have.
func checkOptions(t *testing.T, o Options) {
	t.Helper()
	if p := o.Path; p != "" {
		first, _, _ := strings.Cut(p, "/")
		if !filepath.IsLocal(p) || filepath.Clean(p) != p || p == "." || first == dataDir || first == controlDir {
			t.Errorf("path %q is not clean, not local, or in the driver's own directories", p)
		}
		if strings.ContainsFunc(p, unicode.IsControl) {
			t.Errorf("path %q has a control character in it", p)
		}
	}
	for _, id := range []*int{o.UID, o.GID} {
		if id != nil && (*id < 0 || *id >= 1<<32-1) {
			t.Errorf("id %d", *id)
		}
	}
	if o.Mode != "" && (len(o.Mode) != 4 || strings.Trim(o.Mode, "01234567") != "" || o.Mode[0] > '3') {
		t.Errorf("mode %q", o.Mode)
	}
	if o.OnRemove != Trash && o.OnRemove != Delete && o.OnRemove != Retain {
		t.Errorf("on-remove %q", o.OnRemove)
	}
	if strings.ContainsAny(string(o.ClientOptions), " \t\n\x00\"'/") || strings.HasPrefix(string(o.ClientOptions), "-") {
		t.Errorf("client options %q", o.ClientOptions)
	}
}

func TestDifferences(t *testing.T) {
	one := Options{OnRemove: Trash}
	all := Options{Path: "srv", UID: new(1), GID: new(0), Mode: "0750", OnRemove: Retain, ClientOptions: "ro"}
	want := []string{
		`client-options is the default, not "ro"`, `gid is the default, not "0"`, `mode is the default, not "0750"`,
		`on-remove is "trash", not "retain"`, `path is the default, not "srv"`, `uid is the default, not "1"`,
	}
	if got := one.differences(all); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := all.differences(all); got != nil {
		t.Errorf("options differ from themselves: %q", got)
	}
}
