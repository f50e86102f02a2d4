package provisiontest

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testmachine"
)

const (
	// driver is what 'make build' has made.
	driver = "../../bin/glustervol"
	// checkout is where a machine has this repository's scripts and the driver.
	checkout = "/root/glustervol"
	// roles make a machine all that a node can be.
	roles = "--gluster --docker --driver --swarm --peers node1,node2,node3"
	// patience bounds waits for what has no promise.
	patience = 2 * time.Minute
)

// machine is one of hack/machines.
type machine struct {
	t    *testing.T
	name string
}

// bareMachines starts machines that have nothing but this checkout. They end with the test.
func bareMachines(t *testing.T, names ...string) []*machine {
	t.Helper()
	if testing.Short() {
		t.Skip("takes machines with systemd: run 'sudo make test-provision'")
	}
	t.Cleanup(func() { must(t, command(testmachine.Command("down"))) })
	must(t, command(testmachine.Command(append([]string{"up"}, names...)...)))
	var all []*machine
	for _, name := range names {
		m := &machine{t, name}
		// Such a machine needs no disk that survives a power failure.
		m.run("mkdir -p " + checkout + "/bin && echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/unsafe-io")
		m.copy("..", checkout+"/hack")
		m.copy(driver, checkout+"/bin")
		all = append(all, m)
	}
	return all
}

// command runs a command, which has a time to end in.
func command(cmd *exec.Cmd) error {
	out, err := testmachine.Output(cmd)
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// copy copies a file or directory to the machine.
func (m *machine) copy(file, to string) {
	m.t.Helper()
	file, err := filepath.Abs(file)
	must(m.t, err)
	must(m.t, command(testmachine.Command("copy", file, m.name+":"+to)))
}

// try runs a shell script on the machine, and returns what it printed and its status.
func (m *machine) try(script string) (string, int) {
	m.t.Helper()
	out, err := testmachine.Output(testmachine.Command("exec", m.name, "bash", "-c", script))
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	}
	if exit != nil {
		return out, exit.ExitCode()
	}
	return out, 0
}

// run is a try that has to succeed.
func (m *machine) run(script string) string {
	m.t.Helper()
	out, status := m.try(script)
	if status != 0 {
		m.t.Fatalf("%s: %s: status %d: %s", m.name, script, status, out)
	}
	return out
}

// provision runs hack/provision.sh, which has to succeed.
func (m *machine) provision(args string) string {
	m.t.Helper()
	out := m.run(checkout + "/hack/provision.sh " + args)
	m.t.Logf("%s: provision.sh %s:\n%s", m.name, args, out)
	return out
}

// fails wants hack/provision.sh to end with a status and words.
func (m *machine) fails(args string, status int, words ...string) {
	m.t.Helper()
	out, got := m.try(checkout + "/hack/provision.sh " + args)
	if got != status {
		m.t.Errorf("provision.sh %s ends with status %d, wanted %d: %s", args, got, status, out)
	}
	contains(m.t, out, words...)
}

// refuses is a fails that leaves the machine as it is.
func (m *machine) refuses(args string, status int, words ...string) {
	m.t.Helper()
	before := m.state()
	m.fails(args, status, words...)
	unchanged(m.t, before, m.state())
}

// state is all that lasts on the machine but logs, what apt downloads, and what volumes
// and daemons keep for themselves: each file with its size, mode and time, and what runs.
// A brick's directory has no time of its own: what other nodes have made in the store
// may come here later, by healing.
func (m *machine) state() string {
	m.t.Helper()
	return m.run(`find /boot /etc /home /opt /root /srv /usr /var -xdev \
		-path /var/log -prune -o -path /var/cache -prune -o -path /var/tmp -prune -o -path /var/lib/apt -prune -o \
		-path /srv/gluster/gv0 -prune -printf '%p %m %U:%G\n' -o -path /var/lib/glustervol -prune -o \
		-path /var/lib/systemd -prune -o -path /var/lib/containerd -prune -o -printf '%p %m %U:%G %T@ %s %l\n' | sort
		systemctl list-unit-files --state=enabled --no-legend
		systemctl list-units --type=service --state=running --no-legend | awk '!/systemd-/ { print $1, $3, $4 }'`)
}

// unchanged compares two states of a machine.
func unchanged(t *testing.T, before, after string) {
	t.Helper()
	was := make(map[string]bool)
	for line := range strings.Lines(before) {
		was[line] = true
	}
	for line := range strings.Lines(after) {
		if !was[line] {
			t.Errorf("new or changed: %s", line)
		}
		delete(was, line)
	}
	for line := range was {
		t.Errorf("gone or changed: %s", line)
	}
}

// shareDownloads gives the packages that one machine has downloaded to the others.
func shareDownloads(t *testing.T, from *machine, to ...*machine) {
	t.Helper()
	const dir = "/var/cache/apt/archives"
	var archive bytes.Buffer
	send := testmachine.Command("exec", from.name, "tar", "-C", dir, "--exclude=lock", "--exclude=partial", "-c", ".")
	send.Stdout = &archive
	must(t, send.Run())
	for _, m := range to {
		receive := testmachine.Command("exec", m.name, "tar", "-C", dir, "-x")
		receive.Stdin = bytes.NewReader(archive.Bytes())
		must(t, receive.Run())
	}
}

// image is of a static busybox, as no registry is in reach.
const image = "busybox"

func (m *machine) importImage() {
	m.t.Helper()
	cmd := testmachine.Command("exec", m.name, "docker", "import", "--change", "ENV PATH=/bin", "-", image)
	cmd.Stdin = bytes.NewReader(busybox(m.t))
	must(m.t, command(cmd))
}

// busybox is a root file system with a shell.
func busybox(t *testing.T) []byte {
	t.Helper()
	path, err := exec.LookPath("busybox")
	must(t, err)
	program, err := os.ReadFile(path)
	must(t, err)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	must(t, w.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(program))}))
	_, err = io.Copy(w, bytes.NewReader(program))
	must(t, err)
	for _, applet := range []string{"sh", "cat", "date", "grep", "hostname", "sleep", "sort", "touch"} {
		must(t, w.WriteHeader(&tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox"}))
	}
	must(t, w.Close())
	return archive.Bytes()
}

// docker runs a docker command on the machine.
func (m *machine) docker(args string) string {
	m.t.Helper()
	return m.run("docker " + args)
}

// within waits for a script to succeed on the machine.
func (m *machine) within(limit time.Duration, script string) string {
	m.t.Helper()
	return m.run(fmt.Sprintf("end=$((SECONDS + %d)); until { %s; }; do ((SECONDS < end)) || exit 1; sleep 0.2; done", int(limit.Seconds()), script))
}

// contains wants words in a text.
func contains(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is not in: %s", word, text)
		}
	}
}

// lacks wants no such words in a text.
func lacks(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if strings.Contains(text, word) {
			t.Errorf("%q is in: %s", word, text)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
