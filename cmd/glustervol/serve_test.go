package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/glustervol/glustervol/plugin"
)

// goodOptions are the flags of serve as they are without any on the command line.
func goodOptions() serveOptions {
	return serveOptions{
		runDir: "/run/glustervol", stateDir: "/var/lib/glustervol", logDir: "/var/log/glustervol",
		logFormat: "text", control: "auto", linger: 10 * time.Second, bootWait: 10 * time.Minute,
	}
}

func TestServeOptions(t *testing.T) {
	tests := []struct {
		doc    string
		stores []string
		change func(s *serveOptions)
		want   string // in the error; "" for success
	}{
		{doc: "a store", stores: []string{"gfs1,gfs2:/gv0"}},
		{doc: "stores, in their order", stores: []string{"gfs1:/gv1/dir", "gfs1:/gv0", "[fd00::1]:/gv2"}},
		{doc: "no linger, and no wait", stores: []string{"gfs1:/gv0"}, change: func(s *serveOptions) { s.linger, s.bootWait = 0, 0 }},
		{doc: "JSON", stores: []string{"gfs1:/gv0"}, change: func(s *serveOptions) { s.logFormat = "json" }},
		{doc: "no store", want: "no store is given; name one, such as 'glustervol serve gfs1,gfs2,gfs3:/gv0', or set GLUSTERVOL_STORE"},
		{doc: "a bad store behind a good one", stores: []string{"gfs1:/gv0", "gv0"}, want: `store address "gv0"`},
		{doc: "another log format", stores: []string{"gfs1:/gv0"}, change: func(s *serveOptions) { s.logFormat = "xml" }, want: `--log-format is text or json, not "xml"`},
		{doc: "another control plane", stores: []string{"gfs1:/gv0"}, change: func(s *serveOptions) { s.control = "rest" }, want: `--control is one of auto, gfapi, fuse, not "rest"`},
		{doc: "a negative linger", stores: []string{"gfs1:/gv0"}, change: func(s *serveOptions) { s.linger = -time.Second }, want: "--linger"},
		{doc: "a negative wait", stores: []string{"gfs1:/gv0"}, change: func(s *serveOptions) { s.bootWait = -time.Second }, want: "--boot-wait"},
		{doc: "a negative retention", stores: []string{"gfs1:/gv0"}, change: func(s *serveOptions) { s.retention = -time.Second }, want: "--trash-retention"},
		{doc: "a relative run directory", stores: []string{"gfs1:/gv0"}, change: func(s *serveOptions) { s.runDir = "run" }, want: `--run-dir is an absolute path, not "run"`},
		{doc: "no state directory", stores: []string{"gfs1:/gv0"}, change: func(s *serveOptions) { s.stateDir = "" }, want: `--state-dir is an absolute path, not ""`},
		{doc: "a relative log directory", stores: []string{"gfs1:/gv0"}, change: func(s *serveOptions) { s.logDir = "./log" }, want: `--log-dir is an absolute path, not "./log"`},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			s := goodOptions()
			if tt.change != nil {
				tt.change(&s)
			}
			err := s.parse(tt.stores)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %v, want %q in it", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := storeNames(s.stores); got != strings.Join(tt.stores, " ") {
				t.Errorf("stores %q, want %q", got, tt.stores)
			}
		})
	}
}

// TestEnvironment: flags come from variables too, unless the command line has them; and
// the driver's name goes where nothing else is said.
func TestEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"GLUSTERVOL_LINGER": "3s", "GLUSTERVOL_LOG_FORMAT": "json", "GLUSTERVOL_TRASH_RETENTION": "",
		"GLUSTERVOL_STATE_DIR": "/srv/state", "GLUSTERVOL_NAME": "second", "GLUSTERVOL_SOCKET": "/srv/admin.sock",
	} {
		t.Setenv(name, value)
	}
	for _, tt := range []struct {
		args []string
		want map[string]string
	}{
		{[]string{"--log-format=text"}, map[string]string{
			"linger": "3s", "log-format": "text", "trash-retention": "24h0m0s", "boot-wait": "10m0s",
			"plugin-socket": "/run/docker/plugins/second.sock", "socket": "/srv/admin.sock", "docker-socket": "/run/docker.sock",
			"run-dir": "/run/second", "state-dir": "/srv/state", "log-dir": "/var/log/second",
		}},
		{[]string{"--managed", "--name=third", "--log-dir=/srv/log"}, map[string]string{
			"plugin-socket": plugin.ManagedSocket, "docker-socket": "/host/run/docker.sock",
			"run-dir": "/run/third", "state-dir": "/srv/state", "log-dir": "/srv/log",
		}},
		{[]string{"--managed", "--state-dir=/x", "--docker-socket="}, map[string]string{
			"docker-socket": "", "log-dir": "/x/log",
		}},
	} {
		root := newRootCommand(io.Discard, io.Discard)
		serve, _, err := root.Find([]string{"serve"})
		if err != nil {
			t.Fatal(err)
		}
		s := serveOptions{}
		serve.RunE = func(cmd *cobra.Command, _ []string) error {
			err := fromEnvironment(cmd.Flags(), os.Getenv)
			s.name, _ = cmd.Flags().GetString("name")
			s.managed, _ = cmd.Flags().GetBool("managed")
			return errors.Join(err, s.applyName(cmd.Flags()))
		}
		root.SetArgs(append([]string{"serve"}, tt.args...))
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		for name, want := range tt.want {
			if got := serve.Flag(name).Value.String(); got != want {
				t.Errorf("%q: --%s is %q, want %q", tt.args, name, got, want)
			}
		}
	}
}

// TestServeUsage is the command line of a driver that does not start for it.
func TestServeUsage(t *testing.T) {
	tests := []struct {
		doc      string
		args     []string
		variable string
		want     string
	}{
		{doc: "a name that is a path", args: []string{"serve", "--name=../x", "gfs1:/gv0"}, want: "--name is of letters"},
		{doc: "a wrong client option", args: []string{"serve", "--client-options=frob", "gfs1:/gv0"}, want: "--client-options"},
		{doc: "no store", args: []string{"serve"}, want: "no store is given"},
		{doc: "a bad store", args: []string{"serve", "gv0"}, want: `store address "gv0"`},
		{doc: "a bad store in the environment", args: []string{"serve"}, variable: " gfs1:/gv0  gv1 ", want: `store address "gv1"`},
		{doc: "arguments go before the environment", args: []string{"serve", "gv0"}, variable: "gv1", want: `store address "gv0"`},
		{doc: "a time that is none", args: []string{"serve", "--linger=soon", "gfs1:/gv0"}, want: "--linger"},
		{doc: "an unknown level", args: []string{"serve", "--log-level=loud", "gfs1:/gv0"}, want: "--log-level"},
		{doc: "an unknown flag", args: []string{"serve", "--frob"}, want: "see 'glustervol serve --help'"},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			t.Setenv(storeVariable, tt.variable)
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), tt.args, &stdout, &stderr); code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			if !strings.Contains(stderr.String(), tt.want) || !strings.HasPrefix(stderr.String(), "glustervol: ") || stdout.Len() > 0 {
				t.Errorf("wrote %q and %q, want %q in the latter", stdout.String(), stderr.String(), tt.want)
			}
		})
	}
}
