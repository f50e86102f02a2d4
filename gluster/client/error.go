package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode"
)

// Target is what a client connects to, or mounts.
type Target struct {
	// Servers, Volume and Subdir are those of a store's address.
	Servers []string
	Volume  string
	Subdir  string
	// Options are a mount's options, separated by commas.
	Options string
}

// String writes t as mount.glusterfs(8) does, the options left out.
func (t Target) String() string {
	text := strings.Join(t.Servers, ",") + ":/" + t.Volume
	if t.Subdir != "" {
		text += "/" + t.Subdir
	}
	return text
}

var (
	// ErrNoAnswer is in the chain of an error about a deadline that has passed.
	// Whether what was asked for takes effect is then unknown.
	ErrNoAnswer = errors.New("no answer in time")
	// ErrNoServer is in the chain of an error about a client that none of its
	// servers has given a volume file.
	ErrNoServer = errors.New("no server answers")
	// ErrNoDirectory is in the chain of an error about a Gluster volume that does
	// not have the directory.
	ErrNoDirectory = errors.New("no such directory")
)

// StartError says why a client did not come up.
type StartError struct {
	// Op is what was to be done, "mount" or "connect to", and Target with what.
	Op     string
	Target Target
	// Hint says in a sentence what is probably wrong and what to do; "" when
	// the log gives no clue.
	Hint string
	// Permanent tells that waiting will not help: the servers answered, and
	// refused.
	Permanent bool
	// LogFile is the client's log, Log the last of what it said there.
	LogFile string
	Log     []string
	// Err is the cause on this node.
	Err error
}

func (e *StartError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cannot %s %s: ", e.Op, e.Target)
	if e.Hint != "" {
		b.WriteString(e.Hint)
	} else {
		b.WriteString(e.Err.Error())
	}
	if len(e.Log) > 0 {
		fmt.Fprintf(&b, " (%s says: %s)", e.LogFile, strings.Join(e.Log, " | "))
	}
	return b.String()
}

// Unwrap returns the cause on this node.
func (e *StartError) Unwrap() error { return e.Err }

// NewStartError explains err by what the client has logged since the offset
// logStart.
func NewStartError(op string, target Target, err error, logFile string, logStart int64) *StartError {
	e := &StartError{Op: op, Target: target, LogFile: logFile, Err: err}
	var text string
	if f, openErr := os.Open(logFile); openErr == nil {
		defer f.Close()
		text, e.Log = complaints(io.NewSectionReader(f, max(logStart, LogSize(logFile)-maxLogRead), maxLogRead))
	}
	for _, h := range hints {
		if h.match(text, err) {
			e.Hint, e.Permanent = h.text(target), h.permanent
			break
		}
	}
	return e
}

// logLine splits a line of a Gluster log: time, level, where from, component, message.
var logLine = regexp.MustCompile(`^\[[^]]*\] ([CEW]) (?:\[MSGID: \d+\] )?\[([^]]*)\] \d+-[^ :]*: (.*)$`)

const (
	// tailLines and tailWidth bound what of a log stands in an error.
	tailLines = 3
	tailWidth = 200
	// maxLogRead is how many bytes at the end of a log are looked at; a start
	// writes 5 kB, with log-level=TRACE 100 kB and more.
	maxLogRead = 256 << 10
)

// complaints returns all that the log says, and the last warnings and errors.
func complaints(log io.Reader) (text string, tail []string) {
	var all strings.Builder
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, maxLogRead)
	for lines.Scan() {
		all.WriteString(lines.Text() + "\n")
		m := logLine.FindStringSubmatch(lines.Text())
		if m == nil || strings.Contains(m[2], "cleanup_and_exit") {
			continue
		}
		tail = append(tail, printable(m[3]))
		if len(tail) > tailLines {
			tail = tail[1:]
		}
	}
	return all.String(), tail
}

// printable makes a line of somebody else's text fit for a message.
func printable(line string) string {
	line = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.TrimSpace(line))
	if len(line) > tailWidth {
		line = strings.ToValidUTF8(line[:tailWidth], "") + "…"
	}
	return line
}

// hint turns what the client logged into what a person can do about it.
type hint struct {
	match     func(log string, err error) bool
	text      func(Target) string
	permanent bool
}

// says matches a log with the pattern in it. What the patterns look for is from
// glusterfs 10.3: glusterfsd-mgmt.c, glfs-mgmt.c, client-handshake.c, name.c,
// fuse-bridge.c, mount.c, socket.c.
func says(pattern string) func(string, error) bool {
	re := regexp.MustCompile(pattern)
	return func(log string, _ error) bool { return re.MatchString(log) }
}

var noServer = regexp.MustCompile(`received signum \((1|107)\)`)

// hints are tried in this order; the first that matches speaks. A cause stands
// in front of what follows from it.
var hints = []hint{
	{
		match: func(log string, err error) bool {
			return errors.Is(err, ErrNoDirectory) || strings.Contains(log, "subdirectory for mount")
		},
		text: func(t Target) string {
			return fmt.Sprintf("Gluster volume %s has no directory /%s; make it first, or correct the store's address", t.Volume, t.Subdir)
		},
		permanent: true,
	},
	{
		// "failed to fetch volume file" alone can be a server that went away.
		match: says("failed to get the ('volume file' from server|volume file .*from server)"),
		text: func(t Target) string {
			return fmt.Sprintf("the servers know no Gluster volume %q; compare with 'gluster volume list' on %s", t.Volume, t.Servers[0])
		},
		permanent: true,
	},
	{
		match: says("cannot open /dev/fuse"),
		text: func(Target) string {
			return "this node has no FUSE; 'modprobe fuse' loads it, and a container needs the device /dev/fuse"
		},
	},
	{
		match: says("0-fuse: Initialization of volume failed"),
		text: func(t Target) string {
			return fmt.Sprintf("the Gluster client refuses one of its options %q", t.Options)
		},
		permanent: true,
	},
	{
		match: says("0-glusterfs-fuse: mount of .* failed"),
		text: func(Target) string {
			return "this node's kernel refuses the mount, which takes root and CAP_SYS_ADMIN"
		},
	},
	{
		match: says("SSL connect error|could not load (our cert|private key|CA list)"),
		text: func(Target) string {
			return "the TLS connection failed; compare glusterfs.{pem,key,ca} (in /etc/ssl, on Debian in /usr/lib/ssl) and /var/lib/glusterd/secure-access on this node and on the servers"
		},
	},
	{
		match: says("Server authentication failed|SETVOLUME on remote-host failed"),
		text: func(t Target) string {
			return fmt.Sprintf("the servers refuse this node; look at auth.allow and auth.ssl-allow in 'gluster volume info %s'", t.Volume)
		},
		permanent: true,
	},
	{
		match: says(`-client-\d+: DNS resolution failed`),
		text: func(t Target) string {
			return fmt.Sprintf("this node cannot resolve the names of the bricks in 'gluster volume info %s'; mend DNS or /etc/hosts", t.Volume)
		},
	},
	{
		match: says("failed to get the port number for remote subvolume|first lookup on root failed|All subvolumes are down"),
		text: func(t Target) string {
			return fmt.Sprintf("no brick of Gluster volume %s, or not enough of them, can be reached; is it started? See 'gluster volume status %s'", t.Volume, t.Volume)
		},
	},
	{
		match: says("DNS resolution failed"),
		text: func(t Target) string {
			return fmt.Sprintf("no server can be reached, and not every name of %s can be resolved on this node; mend DNS or /etc/hosts", strings.Join(t.Servers, ", "))
		},
	},
	{
		// A process's exit status 1, in other versions ENOTCONN, and no word on why.
		match: func(log string, err error) bool {
			return errors.Is(err, ErrNoServer) || noServer.MatchString(log)
		},
		text: func(t Target) string {
			return fmt.Sprintf("no glusterd answers on %s, port %d; is it running, and does a firewall lie between?", strings.Join(t.Servers, ", "), GlusterdPort)
		},
	},
	{
		match: func(_ string, err error) bool { return errors.Is(err, ErrNoAnswer) },
		text: func(t Target) string {
			return fmt.Sprintf("%s did not answer in time; does a firewall or a dead link lie between, or are the bricks hung?", strings.Join(t.Servers, ", "))
		},
	},
}
