package mount

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode"
)

func TestParseOptions(t *testing.T) {
	tests := []struct {
		doc  string
		text string
		want Options
		args []string
	}{
		{doc: "none", text: "", want: ""},
		{doc: "commas alone", text: ",,", want: ""},
		{doc: "a flag", text: "ro", want: "ro", args: []string{"--read-only"}},
		{doc: "flags for the kernel, in one argument", text: "nosuid,noatime", want: "noatime,nosuid", args: []string{"--fuse-mountopts=noatime,nosuid"}},
		{
			doc:  "sorted, whatever the order",
			text: "worm,acl,noexec,attribute-timeout=30,acl",
			want: "acl,attribute-timeout=30,noexec,worm",
			args: []string{"--acl", "--attribute-timeout=30", "--worm", "--fuse-mountopts=noexec"},
		},
		{doc: "a number with zeros in front", text: "lru-limit=0064", want: "lru-limit=64", args: []string{"--lru-limit=64"}},
		{doc: "the largest number", text: "lru-limit=2147483647", want: "lru-limit=2147483647", args: []string{"--lru-limit=2147483647"}},
		{doc: "the same twice, said differently", text: "use-readdirp=yes,use-readdirp=1", want: "use-readdirp=on", args: []string{"--use-readdirp=on"}},
		{doc: "off", text: "use-readdirp=disable", want: "use-readdirp=off", args: []string{"--use-readdirp=off"}},
		{doc: "auto", text: "direct-io-mode=auto", want: "direct-io-mode=auto", args: []string{"--direct-io-mode=auto"}},
		{doc: "a log level in small letters", text: "log-level=debug", want: "log-level=DEBUG", args: []string{"--log-level=DEBUG"}},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			got, err := ParseOptions(tt.text)
			if err != nil || got != tt.want {
				t.Fatalf("got %q, %v; want %q", got, err, tt.want)
			}
			if args := got.args(); !slices.Equal(args, tt.args) {
				t.Errorf("arguments %q, want %q", args, tt.args)
			}
		})
	}
}

func TestParseOptionsRefuses(t *testing.T) {
	tests := []struct {
		doc  string
		text string
		want string // in the error
	}{
		{doc: "an unknown option", text: "frob", want: `"frob" is not one of acl, `},
		{doc: "an unknown option among good ones", text: "ro,frob=1,acl", want: `"frob"`},
		{doc: "a file of this machine", text: "log-file=/etc/passwd", want: `"log-file"`},
		{doc: "a dump into a file", text: "dump-fuse=/etc/passwd", want: `"dump-fuse"`},
		{doc: "other servers", text: "backup-volfile-servers=evil", want: `"backup-volfile-servers"`},
		{doc: "the graph", text: "xlator-option=*.x=y", want: `"xlator-option"`},
		{doc: "an unmount that lets containers write to the local disk", text: "auto_unmount", want: `"auto_unmount"`},
		{doc: "an option of the command line", text: "--volfile-server=evil", want: `"--volfile-server"`},
		{doc: "an option behind another", text: "ro --volfile-server=evil", want: `"ro --volfile-server"`},
		{doc: "a space in front", text: " ro", want: `" ro"`},
		{doc: "capitals", text: "RO", want: `"RO"`},
		{doc: "a NUL", text: "ro\x00", want: `"ro\x00"`},
		{doc: "a flag with a value", text: "ro=yes", want: "ro takes no value"},
		{doc: "a flag with an empty value", text: "noatime=", want: "noatime takes no value"},
		{doc: "a number that is missing", text: "lru-limit", want: "lru-limit takes a whole number"},
		{doc: "a negative number", text: "lru-limit=-1", want: `"-1"`},
		{doc: "a number with more behind it", text: "lru-limit=1 --x", want: `"1 --x"`},
		{doc: "a number with a NUL", text: "lru-limit=1\x00", want: `"1\x00"`},
		{doc: "a number that is too large", text: "lru-limit=2147483648", want: `"2147483648"`},
		{doc: "a broken number", text: "attribute-timeout=0.5", want: `"0.5"`},
		{doc: "other digits", text: "lru-limit=６４", want: `"６４"`},
		{doc: "neither on nor off", text: "use-readdirp=maybe", want: "use-readdirp takes on or off"},
		{doc: "neither on nor off, but nothing", text: "use-readdirp", want: "use-readdirp takes on or off"},
		{doc: "auto where there is none", text: "use-readdirp=auto", want: `"auto"`},
		{doc: "no log level", text: "log-level=LOUD", want: "NONE, CRITICAL"},
		{doc: "two values", text: "lru-limit=1,lru-limit=2", want: "lru-limit is given twice"},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			got, err := ParseOptions(tt.text)
			if err == nil {
				t.Fatalf("was read as %q", got)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want %s in it", err, tt.want)
			}
		})
	}
}

// TestOptionsAllowed holds the allowlist against what must never be on it.
func TestOptionsAllowed(t *testing.T) {
	for key := range allowed {
		for _, bad := range []string{"file", "path", "dump", "volfile", "volume", "xlator", "server", "socket", "unmount", "port", "pid"} {
			if strings.Contains(key, bad) {
				t.Errorf("option %s is allowed", key)
			}
		}
	}
}

func FuzzParseOptions(f *testing.F) {
	f.Add(strings.Join(slices.Sorted(maps.Keys(allowed)), ","))
	for _, seed := range []string{"ro,noatime", "lru-limit=007", "direct-io-mode=auto", "log-level=info", "a=b,c d", "ro=\x00", "--x", "ro --x=y"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, err := ParseOptions(s)
		if err != nil {
			return
		}
		if again, err := ParseOptions(string(o)); err != nil || again != o {
			t.Errorf("%q is %q; read again it is %q, %v", s, o, again, err)
		}
		words := strings.Split(string(o), ",")
		if !slices.IsSorted(words) {
			t.Errorf("%q is %q, which is not sorted", s, o)
		}
		for _, word := range words {
			if key, _, _ := strings.Cut(word, "="); word != "" && !o.has(key) {
				t.Errorf("%q has no %q", o, key)
			}
		}
		for _, arg := range o.args() {
			if !strings.HasPrefix(arg, "--") || strings.ContainsFunc(arg, outOfPlace) {
				t.Errorf("%q becomes the argument %q", s, arg)
			}
		}
	})
}

// outOfPlace has all that an argument made of options has no use for.
func outOfPlace(r rune) bool {
	return !strings.ContainsRune("-=,", r) && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
}

func TestSourceArgs(t *testing.T) {
	s := Source{
		Servers: []string{"gfs1", "fd00::2"},
		Volume:  "gv0",
		Subdir:  "a b,c/--x",
		Options: "log-level=DEBUG,ro",
	}
	want := []string{
		"--no-daemon", "--process-name=fuse", "--volfile-server=gfs1", "--volfile-server=fd00::2", "--volfile-id=/gv0",
		"--log-file=/log", "--subdir-mount=/a b,c/--x", "--log-level=DEBUG", "--read-only", "/mnt",
	}
	if got := s.args("/mnt", "/log"); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	s.Options = ""
	if got := s.args("/mnt", "/log"); !slices.Contains(got, "--log-level=WARNING") {
		t.Errorf("no log level in %q", got)
	}
}

func TestSourceKey(t *testing.T) {
	base := Source{Servers: []string{"a", "b"}, Volume: "v", Subdir: "s", Options: "ro"}
	keys := map[string]Source{}
	for _, s := range []Source{
		base,
		{Servers: []string{"b", "a"}, Volume: "v", Subdir: "s", Options: "ro"},
		{Servers: []string{"a"}, Volume: "v", Subdir: "s", Options: "ro"},
		{Servers: []string{"a", "b"}, Volume: "w", Subdir: "s", Options: "ro"},
		{Servers: []string{"a", "b"}, Volume: "v", Subdir: "t", Options: "ro"},
		{Servers: []string{"a", "b"}, Volume: "v", Subdir: "s"},
		{Servers: []string{"a", "b"}, Volume: "v", Options: "ro"},
	} {
		if other, twice := keys[s.Key()]; twice {
			t.Errorf("%+v and %+v have the same key", s, other)
		}
		keys[s.Key()] = s
	}
	long := Source{Servers: []string{"a"}, Volume: strings.Repeat("v", 255)}
	if name := long.Key() + ".log.3"; len(name) > 255 {
		t.Errorf("%q is no file name: %d bytes", name, len(name))
	}
	longer := Source{Servers: []string{"a"}, Volume: strings.Repeat("v", 254) + "w"}
	if long.Key() == longer.Key() {
		t.Error("names that differ at their end have the same key")
	}
}
