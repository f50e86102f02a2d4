package mount

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

// StartError says why a client did not come up.
type StartError struct {
	// Source is what was to be mounted.
	Source Source
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
	fmt.Fprintf(&b, "cannot mount %s: ", e.Source)
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

// newStartError reads what the client has logged since the offset logStart.
func newStartError(source Source, err error, logFile string, logStart int64) *StartError {
	e := &StartError{Source: source, LogFile: logFile, Err: err}
	var text string
	if f, openErr := os.Open(logFile); openErr == nil {
		defer f.Close()
		text, e.Log = complaints(io.NewSectionReader(f, max(logStart, fileSize(logFile)-maxLogRead), maxLogRead))
	}
	for _, h := range hints {
		if h.match(text, err) {
			e.Hint, e.Permanent = h.text(source), h.permanent
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
	text      func(Source) string
	permanent bool
}

// says matches a log with the pattern in it. What the patterns look for is from
// glusterfs 10.3: glusterfsd-mgmt.c, client-handshake.c, name.c, fuse-bridge.c,
// mount.c, socket.c.
func says(pattern string) func(string, error) bool {
	re := regexp.MustCompile(pattern)
	return func(log string, _ error) bool { return re.MatchString(log) }
}

// hints are tried in this order; the first that matches speaks. A cause stands
// in front of what follows from it.
var hints = []hint{
	{
		match: says("subdirectory for mount"),
		text: func(s Source) string {
			return fmt.Sprintf("Gluster volume %s has no directory /%s; make it first, or correct the store's address", s.Volume, s.Subdir)
		},
		permanent: true,
	},
	{
		// "failed to fetch volume file" alone can be a server that went away.
		match: says("failed to get the 'volume file' from server"),
		text: func(s Source) string {
			return fmt.Sprintf("the servers know no Gluster volume %q; compare with 'gluster volume list' on %s", s.Volume, s.Servers[0])
		},
		permanent: true,
	},
	{
		match: says("cannot open /dev/fuse"),
		text: func(Source) string {
			return "this node has no FUSE; 'modprobe fuse' loads it, and a container needs the device /dev/fuse"
		},
	},
	{
		match: says("0-fuse: Initialization of volume failed"),
		text: func(s Source) string {
			return fmt.Sprintf("the Gluster client refuses one of its options %q", s.Options)
		},
		permanent: true,
	},
	{
		match: says("0-glusterfs-fuse: mount of .* failed"),
		text: func(Source) string {
			return "this node's kernel refuses the mount, which takes root and CAP_SYS_ADMIN"
		},
	},
	{
		match: says("SSL connect error|could not load (our cert|private key|CA list)"),
		text: func(Source) string {
			return "the TLS connection failed; compare glusterfs.{pem,key,ca} (in /etc/ssl, on Debian in /usr/lib/ssl) and /var/lib/glusterd/secure-access on this node and on the servers"
		},
	},
	{
		match: says("Server authentication failed|SETVOLUME on remote-host failed"),
		text: func(s Source) string {
			return fmt.Sprintf("the servers refuse this node; look at auth.allow and auth.ssl-allow in 'gluster volume info %s'", s.Volume)
		},
		permanent: true,
	},
	{
		match: says(`-client-\d+: DNS resolution failed`),
		text: func(s Source) string {
			return fmt.Sprintf("this node cannot resolve the names of the bricks in 'gluster volume info %s'; mend DNS or /etc/hosts", s.Volume)
		},
	},
	{
		match: says("failed to get the port number for remote subvolume|first lookup on root failed|All subvolumes are down"),
		text: func(s Source) string {
			return fmt.Sprintf("no brick of Gluster volume %s, or not enough of them, can be reached; is it started? See 'gluster volume status %s'", s.Volume, s.Volume)
		},
	},
	{
		match: says("DNS resolution failed"),
		text: func(s Source) string {
			return fmt.Sprintf("no server can be reached, and not every name of %s can be resolved on this node; mend DNS or /etc/hosts", strings.Join(s.Servers, ", "))
		},
	},
	{
		// Exit status 1, in other versions ENOTCONN, and no word on why.
		match: says(`received signum \((1|107)\)`),
		text: func(s Source) string {
			return fmt.Sprintf("no glusterd answers on %s, port %s; is it running, and does a firewall lie between?", strings.Join(s.Servers, ", "), glusterdPort)
		},
	},
	{
		match: func(_ string, err error) bool { return errors.Is(err, ErrHung) },
		text: func(s Source) string {
			return fmt.Sprintf("%s did not answer in time; does a firewall or a dead link lie between, or are the bricks hung?", strings.Join(s.Servers, ", "))
		},
	},
}
