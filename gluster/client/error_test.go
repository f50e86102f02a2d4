package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// The logs are glusterfs 10.3's, each from a client that failed in that way.
const (
	logShutdown    = `[2026-05-04 10:00:00.704395 +0000] W [glusterfsd.c:1458:cleanup_and_exit] (-->/lib/x86_64-linux-gnu/libgfrpc.so.0(+0xf965) [0x7f0c] -->glusterfs(+0x14639) [0x561e] -->glusterfs(cleanup_and_exit+0x57) [0x561d] ) 0-: received signum (1), shutting down ` + "\n"
	logNoVolume    = `[2026-05-04 10:00:00.084928 +0000] E [glusterfsd-mgmt.c:2170:mgmt_getspec_cbk] 0-glusterfs: failed to get the 'volume file' from server` + "\n" + logNoFetch
	logNoVolumeAPI = `[2026-05-04 10:00:00.600659 +0000] E [MSGID: 104021] [glfs-mgmt.c:586:glfs_mgmt_getspec_cbk] 0-gfapi: failed to get the volume file [{from server}, {errno=2}, {error=No such file or directory}] ` + "\n"
	logNoFetch     = `[2026-05-04 10:00:00.085047 +0000] E [glusterfsd-mgmt.c:2371:mgmt_getspec_cbk] 0-mgmt: failed to fetch volume file (key:/gv0)` + "\n"
	logNoSubdir    = `[2026-05-04 10:00:00.199909 +0000] W [MSGID: 114043] [client-handshake.c:726:client_setvolume_cbk] 0-gv0-client-0: failed to set the volume [{errno=2}, {error=No such file or directory}] ` + "\n" + `[2026-05-04 10:00:00.199947 +0000] E [MSGID: 114044] [client-handshake.c:756:client_setvolume_cbk] 0-gv0-client-0: SETVOLUME on remote-host failed [{remote-error=subdirectory for mount "/sub" is not found}, {errno=2}, {error=No such file or directory}] ` + "\n" + `[2026-05-04 10:00:00.199960 +0000] E [fuse-bridge.c:6552:notify] 0-fuse: Server authentication failed. Shutting down.` + "\n"
	logRefused     = `[2026-05-04 10:00:00.777311 +0000] E [MSGID: 114044] [client-handshake.c:756:client_setvolume_cbk] 0-gv0-client-0: SETVOLUME on remote-host failed [{remote-error=Authentication failed}, {errno=13}, {error=Permission denied}] ` + "\n" + `[2026-05-04 10:00:00.777324 +0000] E [fuse-bridge.c:6552:notify] 0-fuse: Server authentication failed. Shutting down.` + "\n"
	logServerDNS   = `[2026-05-04 10:00:00.310925 +0000] E [MSGID: 101075] [common-utils.c:519:gf_resolve_ip6] 0-resolver: error in getaddrinfo [{family=2}, {ret=Temporary failure in name resolution}] ` + "\n" + `[2026-05-04 10:00:00.310959 +0000] E [name.c:267:af_inet_client_get_remote_sockaddr] 0-glusterfs: DNS resolution failed on host gfs1` + "\n"
	logBrickDNS    = `[2026-05-04 10:00:00.815735 +0000] E [name.c:267:af_inet_client_get_remote_sockaddr] 0-gv0-client-0: DNS resolution failed on host brick1` + "\n"
	logAllDown     = `[2026-05-04 10:00:00.816198 +0000] E [MSGID: 108006] [afr-common.c:6123:__afr_handle_child_down_event] 0-gv0-replicate-0: All subvolumes are down. Going offline until at least one of them comes back up. ` + "\n"
	logStopped     = `[2026-05-04 10:00:00.474971 +0000] E [MSGID: 114058] [client-handshake.c:1193:client_query_portmap_cbk] 0-gv0-client-0: failed to get the port number for remote subvolume. Please run gluster volume status on server to see if brick process is running [] ` + "\n"
	logNoRoot      = `[2026-05-04 10:00:00.476002 +0000] E [fuse-bridge.c:5364:fuse_first_lookup] 0-fuse: first lookup on root failed (Transport endpoint is not connected)` + "\n"
	logNoCert      = `[2026-05-04 10:00:00.999731 +0000] E [socket.c:4405:ssl_setup_connection_params] 0-gv0-client-0: could not load our cert at /usr/lib/ssl/glusterfs.pem` + "\n" + `[2026-05-04 10:00:00.999746 +0000] E [socket.c:224:ssl_dump_error_stack] 0-gv0-client-0:   error:80000002:system library::No such file or directory` + "\n"
	logNoFUSE      = `[2026-05-04 10:00:00.890663 +0000] E [mount.c:475:gf_fuse_mount] 0-glusterfs-fuse: cannot open /dev/fuse (No such file or directory)` + "\n" + logBadOption
	logBadOption   = `[2026-05-04 10:00:00.989887 +0000] E [MSGID: 101019] [xlator.c:640:xlator_init] 0-fuse: Initialization of volume failed. review your volfile again. [{name=fuse}] ` + "\n"
	logNoMount     = `[2026-05-04 10:00:00.510042 +0000] E [mount.c:510:gf_fuse_mount] 0-glusterfs-fuse: mount of gfs1:/gv0 to /run/x/mnt (default_permissions,allow_other,max_read=131072) failed` + "\n"
	logChatter     = `[2026-05-04 10:00:00.521616 +0000] I [io-stats.c:3701:ios_sample_buf_size_configure] 0-gv0: Configure ios_sample_buf  size is 1024 because ios_sample_interval is 0` + "\nFinal graph:\n+---+\n  1: volume gv0-client-0\n" + `[2026-05-04 10:00:00.029528 +0000] D [socket.c:3294:socket_fix_ssl_opts] 0-gv0-client-0: disabling SSL for portmapper connection` + "\n"
)

var errEnded = errors.New("the client ended")

func TestStartErrorHint(t *testing.T) {
	hung := fmt.Errorf("%w (%w)", ErrNoAnswer, context.DeadlineExceeded)
	tests := []struct {
		doc       string
		log       string
		err       error
		hint      string
		permanent bool
	}{
		{doc: "no such Gluster volume", log: logNoVolume + logShutdown, hint: `the servers know no Gluster volume "gv0"`, permanent: true},
		{doc: "a server that went away", log: logNoFetch + logShutdown, hint: "no glusterd answers"},
		{doc: "no such Gluster volume, says libgfapi", log: logNoVolumeAPI, err: fs.ErrNotExist, hint: `the servers know no Gluster volume "gv0"`, permanent: true},
		{doc: "no server, says libgfapi", err: fmt.Errorf("%w: %w", ErrNoServer, unix.ENOTCONN), hint: "no glusterd answers on gfs1, gfs2, port 24007"},
		{doc: "no such directory", log: logNoSubdir, hint: "has no directory /sub", permanent: true},
		{doc: "no such directory, says libgfapi", err: ErrNoDirectory, hint: "has no directory /sub", permanent: true},
		{doc: "refused by the bricks", log: logRefused, hint: "auth.allow", permanent: true},
		{doc: "a server's name that does not resolve", log: logServerDNS + logShutdown, hint: "not every name of gfs1, gfs2 can be resolved"},
		{doc: "a brick's name that does not resolve", log: logChatter + logBrickDNS + logAllDown + logNoRoot, hint: "the names of the bricks"},
		{doc: "one server's name does not resolve, the other says that the bricks are down", log: logServerDNS + logStopped + logNoRoot, hint: "is it started?"},
		{doc: "stopped", log: logChatter + logStopped + logNoRoot, hint: "is it started?"},
		{doc: "all replicas down", log: logAllDown, hint: "is it started?"},
		{doc: "no certificate for the bricks", log: logNoCert + logNoRoot, hint: "TLS"},
		{doc: "no certificate for the servers", log: logNoCert + logShutdown, hint: "TLS"},
		{doc: "no FUSE", log: logNoFUSE, hint: "/dev/fuse"},
		{doc: "an option out of range", log: logBadOption, hint: `refuses one of its options "ro"`, permanent: true},
		{doc: "no right to mount", log: logNoMount, hint: "CAP_SYS_ADMIN"},
		{doc: "nothing listens", log: logChatter + logShutdown, hint: "no glusterd answers on gfs1, gfs2, port 24007"},
		{doc: "no answer", log: logChatter, err: hung, hint: "gfs1, gfs2 did not answer in time"},
		{doc: "no answer from stopped bricks", log: logStopped, err: hung, hint: "is it started?"},
		{doc: "a client that was killed", log: "", err: errEnded, hint: ""},
		{doc: "a log of something else", log: "\x00\xff[] E [] : DNS\n", hint: ""},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			if tt.err == nil {
				tt.err = &fs.PathError{Op: "verify", Path: "/run/x/mnt", Err: unix.ENOTCONN}
			}
			err := startError(t, logRefused, tt.log, tt.err)
			if !strings.Contains(err.Hint, tt.hint) || (tt.hint == "") != (err.Hint == "") {
				t.Errorf("hint %q, want %q in it", err.Hint, tt.hint)
			}
			if err.Permanent != tt.permanent {
				t.Errorf("permanent is %v", err.Permanent)
			}
			if !errors.Is(err, tt.err) {
				t.Errorf("%v does not carry %v", err, tt.err)
			}
			text := err.Error()
			if !strings.HasPrefix(text, "cannot mount gfs1,gfs2:/gv0/sub: ") || !strings.Contains(text, tt.hint) {
				t.Errorf("error %q", text)
			}
			if err.Hint == "" && !strings.Contains(text, tt.err.Error()) {
				t.Errorf("error %q without a hint or a cause", text)
			}
		})
	}
}

// startError is what becomes of a log whose first part is from an earlier start.
func startError(t *testing.T, earlier, log string, err error) *StartError {
	t.Helper()
	file := filepath.Join(t.TempDir(), "client.log")
	if err := os.WriteFile(file, []byte(earlier+log), 0o600); err != nil {
		t.Fatal(err)
	}
	target := Target{Servers: []string{"gfs1", "gfs2"}, Volume: "gv0", Subdir: "sub", Options: "ro"}
	return NewStartError("mount", target, err, file, int64(len(earlier)))
}

func TestStartErrorLog(t *testing.T) {
	err := startError(t, logRefused, logChatter+logServerDNS+logStopped+logNoRoot+logShutdown, errEnded)
	if len(err.Log) != tailLines {
		t.Fatalf("log %q, want %d lines", err.Log, tailLines)
	}
	for i, want := range []string{"DNS resolution failed on host gfs1", "failed to get the port number", "first lookup on root failed"} {
		if !strings.HasPrefix(err.Log[i], want) {
			t.Errorf("line %d is %q, want %q", i, err.Log[i], want)
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q, want %q in it", err, want)
		}
	}
	if !strings.Contains(err.Error(), err.LogFile) {
		t.Errorf("error %q does not name the log", err)
	}
}

// TestStartErrorLongLog has a client talk so much that only the end is read.
func TestStartErrorLongLog(t *testing.T) {
	chatter := strings.Repeat(logChatter, 3*maxLogRead/len(logChatter))
	err := startError(t, "", logRefused+chatter+logStopped, errEnded)
	if !strings.Contains(err.Hint, "is it started?") || len(err.Log) != 1 {
		t.Errorf("hint %q, log %q", err.Hint, err.Log)
	}
	err = startError(t, "", strings.Repeat("x", 2*maxLogRead), errEnded)
	if err.Hint != "" || len(err.Log) != 0 {
		t.Errorf("one endless line: hint %q, log %q", err.Hint, err.Log)
	}
}

func TestStartErrorWithoutLog(t *testing.T) {
	err := NewStartError("mount", Target{Servers: []string{"gfs1"}, Volume: "gv0"}, ErrNoAnswer, filepath.Join(t.TempDir(), "none"), 0)
	if !strings.Contains(err.Hint, "did not answer") || len(err.Log) != 0 {
		t.Errorf("hint %q, log %q", err.Hint, err.Log)
	}
}

func TestPrintable(t *testing.T) {
	tests := []struct {
		doc  string
		line string
		want string
	}{
		{doc: "plain", line: "  first lookup on root failed  ", want: "first lookup on root failed"},
		{doc: "an escape sequence", line: "a\x1b[2Jb\x07", want: "a[2Jb"},
		{doc: "a NUL, a carriage return", line: "a\x00b\rc", want: "abc"},
		{doc: "another order of the text", line: "a\u202ecba\u2066", want: "acba"},
		{doc: "letters of any script", line: "größe 文", want: "größe 文"},
		{doc: "too long", line: strings.Repeat("x", tailWidth+1), want: strings.Repeat("x", tailWidth) + "…"},
		{doc: "too long, cut inside of a letter", line: "x" + strings.Repeat("ü", tailWidth), want: "x" + strings.Repeat("ü", tailWidth/2-1) + "…"},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			if got := printable(tt.line); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzComplaints(f *testing.F) {
	f.Add(logNoSubdir + logChatter + logServerDNS)
	f.Add("[] E [] 0-x: \xff\xfe\x00\x1b[1m\u202e\n[] E [] 0-x: " + strings.Repeat("ü", 500))
	f.Fuzz(func(t *testing.T, log string) {
		_, tail := complaints(strings.NewReader(log))
		if len(tail) > tailLines {
			t.Errorf("%d lines", len(tail))
		}
		for _, line := range tail {
			if len(line) > tailWidth+len("…") || !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("line %q", line)
			}
		}
	})
}
