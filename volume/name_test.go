package volume

import (
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

func TestCheckName(t *testing.T) {
	tests := []struct {
		doc  string
		name string
		want string // in the error; "" for a good name
	}{
		{doc: "a name", name: "web"},
		{doc: "all that is allowed", name: "aZ09_.-"},
		{doc: "a single letter", name: "a"},
		{doc: "a single digit", name: "7"},
		{doc: "what Docker makes up", name: strings.Repeat("0123456789abcdef", 4)},
		{doc: "dots inside", name: "a..b"},
		{doc: "a name like a file of the catalog", name: "web.json.claim"},
		{doc: "as long as allowed", name: strings.Repeat("x", 200)},
		{doc: "a character too long", name: strings.Repeat("x", 201), want: "201 characters, 200 are allowed"},
		{doc: "longer than a file name", name: strings.Repeat("x", 300), want: "300 characters"},
		{doc: "nothing", name: "", want: "empty"},
		{doc: "a dot", name: ".", want: `"."`},
		{doc: "dots", name: "..", want: `".."`},
		{doc: "a way out", name: "../web", want: `"../web"`},
		{doc: "a slash", name: "a/b", want: `"a/b"`},
		{doc: "a backslash", name: `a\b`, want: `"a\\b"`},
		{doc: "a hidden name", name: ".glustervol", want: `".glustervol"`},
		{doc: "a dash in front", name: "-rf", want: `"-rf"`},
		{doc: "an underscore in front", name: "_web", want: `"_web"`},
		{doc: "a NUL", name: "web\x00", want: `"web\x00"`},
		{doc: "a control character", name: "w\x1beb", want: `"w\x1beb"`},
		{doc: "a line feed behind it", name: "web\n", want: `"web\n"`},
		{doc: "a space", name: "my web", want: `"my web"`},
		{doc: "a comma", name: "web,ro", want: `"web,ro"`},
		{doc: "a colon", name: "web:ro", want: `"web:ro"`},
		{doc: "letters that are not ASCII", name: "größe", want: `"größe"`},
		{doc: "digits that are not ASCII", name: "web６", want: `"web６"`},
		{doc: "bytes that are no UTF-8", name: "web\xff", want: `"web\xff"`},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			err := CheckName(tt.name)
			if tt.want == "" {
				must(t, err)
				return
			}
			wantText(t, err, tt.want)
		})
	}
}

func FuzzCheckName(f *testing.F) {
	for _, seed := range []string{"web", "..", "a/b", ".a", "-a", "a\x00", "a\n", "größe", "\xff", strings.Repeat("x", 201)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if err := CheckName(name); err != nil {
			if strings.ContainsFunc(err.Error(), unicode.IsControl) || len(err.Error()) > 4*maxName+200 {
				t.Errorf("%q: error %q is not fit for a person", name, err)
			}
			return
		}
		if name == "" || strings.ContainsAny(name[:1], ".-") || strings.ContainsFunc(name, beyondNames) {
			t.Errorf("%q is taken for a name", name)
		}
		// The longest file names that are made of it, and that none leads elsewhere.
		entry := Definition{Name: name, ID: NewID()}.entry()
		for _, file := range []string{
			definitionFile(name), claimFile(name), tombstoneFile(entry, 1000), trashFile(entry),
			trashData(entry) + restoringSuffix, trashData(entry) + purgingSuffix, name + recordSuffix + ".damaged",
		} {
			if base := filepath.Base(file); !filepath.IsLocal(file) || len(base) > 255 || !strings.Contains(base, name) {
				t.Errorf("%q becomes the file %q", name, file)
			}
		}
		if got, err := parseEntry(entry); err != nil || got != name {
			t.Errorf("entry %q is of %q, %v", entry, got, err)
		}
	})
}

// beyondNames has what a path, a list, a shell or a person reads as something else.
func beyondNames(r rune) bool {
	return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_.-", r)
}

// wantText wants an error that says so.
func wantText(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q in it", err, want)
	}
}
