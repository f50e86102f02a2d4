package volume

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// aRecord is a good record, whose fields a test then spoils.
func aRecord(t *testing.T) map[string]any {
	t.Helper()
	def := definition("web", map[string]string{"path": "srv/www", "uid": "999", "mode": "0750", "client-options": "ro"})
	data, err := record{Definition: def, By: testNode(1), Removed: new(time.Unix(1e9, 0).UTC()), KeepData: true}.encode()
	must(t, err)
	var fields map[string]any
	must(t, json.Unmarshal(data, &fields))
	return fields
}

func TestDecodeRecord(t *testing.T) {
	tests := []struct {
		doc   string
		spoil func(r, options map[string]any)
		want  string // in the error; "" for a good record
	}{
		{doc: "as it was written", spoil: func(r, _ map[string]any) {}},
		{doc: "a field of a newer driver", spoil: func(r, _ map[string]any) { r["labels"] = []string{"x"} }},
		{doc: "an option that is not set", spoil: func(_, o map[string]any) { delete(o, "uid") }},
		{doc: "no name", spoil: func(r, _ map[string]any) { delete(r, "name") }, want: "name is empty"},
		{doc: "dots for a name", spoil: func(r, _ map[string]any) { r["name"] = ".." }, want: `".."`},
		{doc: "a name that leads out", spoil: func(r, _ map[string]any) { r["name"] = "../../etc" }, want: `"../../etc"`},
		{doc: "a name with a NUL", spoil: func(r, _ map[string]any) { r["name"] = "web\x00" }, want: `"web\x00"`},
		{doc: "a number for a name", spoil: func(r, _ map[string]any) { r["name"] = 1 }, want: "cannot unmarshal number"},
		{doc: "no id", spoil: func(r, _ map[string]any) { delete(r, "id") }, want: `id "" is not 16 hex digits`},
		{doc: "an id that leads out", spoil: func(r, _ map[string]any) { r["id"] = "/../../../../etc" }, want: "is not 16 hex digits"},
		{doc: "an id in capitals", spoil: func(r, _ map[string]any) { r["id"] = "0123456789ABCDEF" }, want: "is not 16 hex digits"},
		{doc: "an id with a line feed", spoil: func(r, _ map[string]any) { r["id"] = "0123456789abcdef\n" }, want: "is not 16 hex digits"},
		{doc: "a year that Docker cannot read", spoil: func(r, _ map[string]any) { r["created"] = "0000-01-01T00:00:00Z" }, want: "created is out of range"},
		{doc: "a time that is none", spoil: func(r, _ map[string]any) { r["created"] = "yesterday" }, want: "parsing time"},
		{doc: "a path that leads out", spoil: func(_, o map[string]any) { o["path"] = "../x" }, want: `".."`},
		{doc: "an absolute path", spoil: func(_, o map[string]any) { o["path"] = "/etc" }, want: "not in canonical form"},
		{doc: "a path into the catalog", spoil: func(_, o map[string]any) { o["path"] = ".glustervol/trash" }, want: "lies where glustervol"},
		{doc: "a path to another volume", spoil: func(_, o map[string]any) { o["path"] = "volumes/db" }, want: "lies where glustervol"},
		{doc: "a path with a slash too much", spoil: func(_, o map[string]any) { o["path"] = "srv/" }, want: "not in canonical form"},
		{doc: "a path that is to be deleted", spoil: func(_, o map[string]any) { o["on-remove"] = "delete" }, want: "do not go together"},
		{doc: "no on-remove", spoil: func(_, o map[string]any) { delete(o, "on-remove") }, want: "on-remove"},
		{doc: "a mode in another form", spoil: func(_, o map[string]any) { o["mode"] = "750" }, want: `mode is "750", not "0750"`},
		{doc: "setuid", spoil: func(_, o map[string]any) { o["mode"] = "4755" }, want: "mode"},
		{doc: "a negative uid", spoil: func(_, o map[string]any) { o["uid"] = -1 }, want: "uid"},
		{doc: "a uid with a fraction", spoil: func(_, o map[string]any) { o["uid"] = 0.5 }, want: "cannot unmarshal number 0.5"},
		{doc: "an argument among the client options", spoil: func(_, o map[string]any) { o["client-options"] = "--log-file=/x" }, want: "client-options"},
		{doc: "client options in another order", spoil: func(_, o map[string]any) { o["client-options"] = "ro,acl" }, want: "not in canonical form"},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			fields := aRecord(t)
			tt.spoil(fields, fields["options"].(map[string]any))
			data, err := json.Marshal(fields)
			must(t, err)
			r, err := decodeRecord(data)
			switch {
			case tt.want == "" && (err != nil || r.Name != "web"):
				t.Errorf("read as %+v, %v", r, err)
			case tt.want != "":
				wantText(t, err, tt.want)
			}
		})
	}
}

func TestDecodeRecordRefusesHalf(t *testing.T) {
	data, err := json.Marshal(aRecord(t))
	must(t, err)
	for n := range data {
		if r, err := decodeRecord(data[:n]); err == nil {
			t.Errorf("%d of %d bytes are read as %+v", n, len(data), r)
		}
	}
	if _, err := decodeRecord(append(data, "{}"...)); err == nil {
		t.Error("two records in one file are read as one")
	}
}

// FuzzDecodeRecord has a stranger write the catalog.
func FuzzDecodeRecord(f *testing.F) {
	for _, options := range []string{
		`{"on-remove":"trash"}`, `{"on-remove":"retain","path":"srv/www","uid":0,"gid":999,"mode":"1777","client-options":"acl,lru-limit=7"}`,
		`{"on-remove":"trash","path":"../../etc"}`, `{"on-remove":"trash","path":"/etc"}`, `{"on-remove":"trash","path":".glustervol"}`,
		`{"on-remove":"trash","path":"volumes/db"}`, `{"on-remove":"delete","path":"srv"}`, `{"on-remove":"","mode":"4755"}`,
		`{"on-remove":"trash","uid":-1}`, `{"on-remove":"trash","path":"a\u0000b"}`, `{"on-remove":"trash","client-options":"log-file=/x"}`,
	} {
		f.Add(fmt.Appendf(nil, `{"name":"web","id":"0123456789abcdef","created":"2026-01-02T03:04:05+01:00","options":%s,"by":{"node":"a","session":"b"}}`, options))
	}
	f.Add([]byte(`{"name":"..","id":"0123456789abcdef","restores":"../x","removed":"0000-01-01T00:00:00+23:59","keep-data":true}`))
	f.Add([]byte(`{"NAME":"web","Id":"0123456789abcdef","CREATED":"9999-12-31T23:59:59-23:59","options":{"On-Remove":"trash"}}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeRecord(data)
		if err != nil {
			return
		}
		dir := r.Dir()
		own := dir == dataDir+"/"+r.Name
		first, _, _ := strings.Cut(dir, "/")
		if !filepath.IsLocal(dir) || filepath.Clean(dir) != dir || dir == "." || !own && (first == dataDir || first == controlDir) || own != r.ownDir() {
			t.Errorf("the volume's directory is %q", dir)
		}
		if CheckName(r.Name) != nil {
			t.Errorf("the volume's name is %q", r.Name)
		}
		if _, err := parseEntry(r.entry()); err != nil {
			t.Errorf("its entry is %q", r.entry())
		}
		checkOptions(t, r.Options)
		written, err := r.encode()
		must(t, err)
		again, err := decodeRecord(written)
		must(t, err)
		if rewritten, err := again.encode(); err != nil || !bytes.Equal(written, rewritten) {
			t.Errorf("written %s, written again %s, %v", written, rewritten, err)
		}
	})
}
