package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/glustervol/glustervol/cmd/glustervol/doctor"
	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/plugin"
)

// unpack is what is in a support bundle, by name without the directory.
func unpack(t *testing.T, archive io.Reader) map[string]string {
	t.Helper()
	compressed, err := gzip.NewReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	files, top := map[string]string{}, ""
	for r := tar.NewReader(compressed); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		dir, name, _ := strings.Cut(header.Name, "/")
		if top == "" {
			top = dir
		}
		if dir != top || !strings.HasPrefix(top, "glustervol-support-") || !filepath.IsLocal(header.Name) || header.Mode != 0o600 {
			t.Errorf("in the archive: %+v", header)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
}

func readBundle(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return unpack(t, f)
}

// TestSupportBundle: all that a bug report needs is in it, of a node that works.
func TestSupportBundle(t *testing.T) {
	gv, store := goodStore(t)
	serveDocker(t, store)
	awaitReached(t)
	startContainer(t, "box", "-v=web:/data", "--env=CONTAINER=planted-in-the-environment")
	secrets := plantSecrets(t, gv)
	beSystemd(t)

	file := filepath.Join(t.TempDir(), "bundle.tar.gz")
	config := filepath.Join(t.TempDir(), "glustervol")
	if err := os.WriteFile(config, []byte("HTTP_PROXY=planted-in-the-configuration\nGLUSTERVOL_LINGER=7s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := cli(t, "support-bundle", "--config="+config, file); got != file {
		t.Errorf("it prints %q", got)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	files := readBundle(t, file)
	for name, words := range map[string][]string{
		"versions.txt":                        {"glustervol devel", "glusterfs 10.", "Linux", "PRETTY_NAME"},
		"configuration.txt":                   {"GLUSTERVOL_LINGER=7s"},
		"mountinfo.txt":                       {"/run/glustervol/clients/"},
		"stores/0.vol":                        {"type protocol/client", "type cluster/replicate", gv.Bricks[2]},
		"stores/0.json":                       {store},
		"logs/planted.log":                    {"the end of a log"},
		"units/glustervol.service.txt":        {"fake status", "glustervol.service"},
		"units/docker.service.journal.txt":    {"fake journal", "--unit=docker.service"},
		"units/glusterd.service.journal.txt":  {"fake journal"},
		"units/glustervol.socket.journal.txt": {"fake journal"},
	} {
		expect(t, files[name], words...)
	}
	if strings.Contains(files["logs/planted.log"], "the start of a log") || len(files["logs/planted.log"]) > tailSize {
		t.Error("all of a log is in it")
	}
	var found []doctor.Finding
	decodeStrictly(t, files["doctor.json"], &found)
	expectFinding(t, found, "store", doctor.OK, "format 1")
	var info plugin.Info
	decodeStrictly(t, files["info.json"], &info)
	var volumes []plugin.VolumeInfo
	decodeStrictly(t, files["volumes.json"], &volumes)
	if info.Version != version || len(volumes) != 1 || volumes[0].Name != "web" {
		t.Errorf("info %+v, volumes %+v", info, volumes)
	}
	expect(t, files["nodes.json"], "this node")
	for name, text := range files {
		for _, secret := range append(secrets, "planted-") {
			if strings.Contains(text, secret) {
				t.Errorf("the secret %q is in %s", secret, name)
			}
		}
	}
	cliFails(t, []string{"support-bundle", file}, "file exists")
}

// plantSecrets puts secrets where a bundle might take them from, and returns those that
// are Gluster's own.
func plantSecrets(t *testing.T, gv *testnode.GlusterVolume) (own []string) {
	t.Helper()
	info, err := os.ReadFile("/var/lib/glusterd/vols/" + gv.Name + "/info")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"username", "password"} {
		_, rest, _ := strings.Cut(string(info), "\n"+key+"=")
		secret, _, _ := strings.Cut(rest, "\n")
		if secret == "" {
			t.Fatalf("the Gluster volume has no %s", key)
		}
		own = append(own, secret)
	}
	log := "the start of a log\n" + strings.Repeat("padding\n", tailSize/8) +
		"  7:     option username " + own[0] + "\n  8:     option password " + own[1] + "\n" +
		"-----BEGIN PRIVATE KEY-----\nplanted-key\n-----END PRIVATE KEY-----\n" +
		"the end of a log\n"
	if err := os.WriteFile("/var/log/glustervol/planted.log", []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove("/var/log/glustervol/planted.log") })
	return own
}

// beSystemd has the machine look as if systemd ran, with commands that answer in its
// place, and leak what the real ones might.
func beSystemd(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll("/run/systemd/system", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll("/run/systemd") })
	bin := t.TempDir()
	for name, text := range map[string]string{
		"systemctl":  `echo fake status "$@"`,
		"journalctl": `echo fake journal "$@"; echo 'msg="form data: {\"Env\":[\"A=planted-in-a-journal\"]}"'; echo 'proxy https://me:planted-proxy@host/'; echo 'PASSWORD="planted-password" token: planted-token'`,
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

// TestSupportBundleWithoutAll: there is a bundle of a node where nothing works.
func TestSupportBundleWithoutAll(t *testing.T) {
	testnode.Require(t)
	archive, err := command(t.Context(), "support-bundle", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := unpack(t, bytes.NewReader(archive))
	expect(t, files["info.json"], "not collected", "does not run on this node")
	expect(t, files["doctor.json"], "no store is configured")
	cliFails(t, []string{"support-bundle", "/nonexistent/file"}, "/nonexistent/file")
	if exists("/nonexistent") {
		t.Error("a directory was made")
	}
}

func TestRedact(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"all is well\n", "all is well\n"},
		{"  3:     option password 1234\nnext\n", "(left out)\nnext\n"},
		{"option username a", "(left out)\n"},
		{`level=debug msg="form data: {\"Env\":[\"A=b\"]}"` + "\n", "(left out)\n"},
		{`"Env": ["A=b"]`, "(left out)\n"},
		{"db_password=abc other=1", "db_password=(left out) other=1"},
		{`"token": "abc", "name": "web"`, `"token": "(left out)", "name": "web"`},
		{"https://u:p@h/x", "https://(left out)@h/x"},
		{"gfs1:/gv0 fuse.glusterfs", "gfs1:/gv0 fuse.glusterfs"},
		{"-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\n", "(left out)\n"},
		{"-----BEGIN PRIVATE KEY-----\nbroken off", "(left out)"},
	} {
		if got := redact(tt.text); got != tt.want {
			t.Errorf("%q becomes %q, want %q", tt.text, got, tt.want)
		}
	}
}
