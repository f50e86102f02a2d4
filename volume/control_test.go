package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/gluster/client"
	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/mount"
)

func TestMain(m *testing.M) { testnode.Main(m) }

// newConnections are connections over libgfapi, to Gluster volumes of the test's.
func newConnections(t *testing.T) (*apiConnections, *logs) {
	t.Helper()
	testnode.Require(t)
	l := new(logs)
	return &apiConnections{logDir: t.TempDir(), log: l.logger(), byStore: map[string]*apiConnection{}}, l
}

// TestConnectionStays stops a store for a while: planes come and go, the
// connection is the same.
func TestConnectionStays(t *testing.T) {
	cs, l := newConnections(t)
	gv := testnode.NewGlusterVolume(t, 1, "")
	address := parseAddress(t, gv.Address())
	gv.Stop()
	_, err := cs.open(t.Context(), address)
	if _, failed := errors.AsType[*client.StartError](err); !failed {
		t.Fatalf("error %v", err)
	}
	api := cs.byStore[address.String()].api
	gv.Start()
	var plane ControlPlane
	testnode.Eventually(t, "the store answers", func() bool {
		plane, err = cs.open(t.Context(), address)
		return err == nil
	})
	must(t, plane.Mkdir(t.Context(), "d", 0o755))
	must(t, plane.Close())
	again, err := cs.open(t.Context(), address)
	must(t, err)
	must(t, again.Remove(t.Context(), "d"))
	if cs.byStore[address.String()].api != api || !again.Alive() {
		t.Error("another connection was made")
	}
	if lines := l.with("replaced"); len(lines) > 0 {
		t.Error(lines)
	}
}

// TestConnectionReplaced makes a Gluster volume anew under a connection, which
// it does not survive.
func TestConnectionReplaced(t *testing.T) {
	cs, l := newConnections(t)
	address := parseAddress(t, "gfs1:/anew")
	var plane ControlPlane
	t.Run("former", func(t *testing.T) {
		testnode.NamedGlusterVolume(t, "anew")
		var err error
		plane, err = cs.open(t.Context(), address)
		must(t, err)
		must(t, plane.Mkdir(t.Context(), "former", 0o755))
	})
	connection := cs.byStore[address.String()]
	connection.patience = 500 * time.Millisecond
	plane = &apiPlane{API: connection.api, patience: connection.patience}
	testnode.Eventually(t, "the store has been silent for long", func() bool {
		_, _ = plane.ReadDir(t.Context(), ".")
		return !plane.Alive()
	})

	// While it is not there, a second connection does not help.
	if _, err := cs.open(t.Context(), address); err == nil {
		t.Error("a volume that was deleted can be opened")
	}
	if connection.patience != time.Second || connection.api != plane.(*apiPlane).API {
		t.Errorf("behind a trial that failed, the next is after %s", connection.patience)
	}

	testnode.NamedGlusterVolume(t, "anew")
	testnode.Eventually(t, "the new Gluster volume is served", func() bool {
		fresh, err := cs.open(t.Context(), address)
		if err != nil {
			return false
		}
		_, err = fresh.Lstat(t.Context(), "former")
		return errors.Is(err, os.ErrNotExist) && fresh.Alive()
	})
	if lines := l.with("replaced", address.String()); len(lines) != 1 {
		t.Errorf("log %q", lines)
	}
}

// TestConnectionNeverUp has a connection that fails though its Gluster volume is there, as libgfapi's
// do now and then that were begun before it was: that of another volume stands for it.
func TestConnectionNeverUp(t *testing.T) {
	cs, l := newConnections(t)
	address := parseAddress(t, "gfs1:/late")
	c, err := cs.connection(address)
	must(t, err)
	stuck, err := gluster.NewAPI(parseAddress(t, "gfs1:/stuck"), c.logFile)
	must(t, err)
	c.api, c.patience = stuck, time.Millisecond
	if _, err := cs.open(t.Context(), address); err == nil || c.patience != 2*time.Millisecond {
		t.Errorf("a volume that is not there yet: error %v, the next trial after %s", err, c.patience)
	}

	testnode.NamedGlusterVolume(t, "late")
	c.patience = time.Minute
	if _, err := cs.open(t.Context(), address); err == nil || c.api != stuck {
		t.Errorf("a trial before it is due: error %v", err)
	}
	c.patience = time.Millisecond
	plane, err := cs.open(t.Context(), address)
	must(t, err)
	must(t, plane.Mkdir(t.Context(), "d", 0o755))
	if c.patience != replaceAfter || !plane.Alive() {
		t.Errorf("a connection that is up is silent for %s until it is replaced, alive %v", c.patience, plane.Alive())
	}
	if lines := l.with("replaced", address.String()); len(lines) != 1 {
		t.Errorf("log %q", lines)
	}
}

// TestConnectionNoDirectory has a store's directory not be there, which is an answer: that of another
// connection would be the same.
func TestConnectionNoDirectory(t *testing.T) {
	cs, _ := newConnections(t)
	address := parseAddress(t, testnode.NewGlusterVolume(t, 1, "").Address()+"/absent")
	c, err := cs.connection(address)
	must(t, err)
	c.patience = 0
	for range 2 {
		if _, err := cs.open(t.Context(), address); !errors.Is(err, client.ErrNoDirectory) || !c.tried.IsZero() {
			t.Errorf("error %v, tried %v", err, c.tried)
		}
	}
}

// TestConnectionHangs stops a store's brick for longer than the patience: a
// trial has its end, and the first connection comes back.
func TestConnectionHangs(t *testing.T) {
	cs, l := newConnections(t)
	gv := testnode.NewGlusterVolume(t, 1, "")
	address := parseAddress(t, gv.Address())
	_, err := cs.open(t.Context(), address)
	must(t, err)
	connection := cs.byStore[address.String()]
	connection.patience = time.Millisecond
	resume := testnode.Hang(t, gv.BrickPID())
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := cs.open(ctx, address)
		cancel()
		wantIs(t, err, client.ErrNoAnswer)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = cs.open(ctx, address)
	wantIs(t, err, client.ErrNoAnswer)
	if ctx.Err() != nil {
		t.Error("a trial took all the time that the request had")
	}
	resume()
	connection.patience = time.Hour
	testnode.Eventually(t, "the store answers again", func() bool {
		plane, err := cs.open(t.Context(), address)
		return err == nil && plane.Alive()
	})
	if lines := l.with("replaced"); len(lines) > 0 {
		t.Error(lines)
	}
}

// TestConnectionLog rotates the log of a library that goes on logging.
func TestConnectionLog(t *testing.T) {
	cs, l := newConnections(t)
	gv := testnode.NewGlusterVolume(t, 1, "")
	address := parseAddress(t, gv.Address())
	plane, err := cs.open(t.Context(), address)
	must(t, err)
	file := cs.byStore[address.String()].logFile
	const tooLarge = 11 << 20
	must(t, os.Truncate(file, tooLarge)) // a hole, which takes no room
	cs.rotateLogs()
	if info, err := os.Stat(file + ".1"); err != nil || info.Size() != tooLarge {
		t.Errorf("rotated log: %v, %v", info, err)
	}
	gv.Stop()
	testnode.Eventually(t, "the library logs to the same file, from its beginning", func() bool {
		_, err := plane.ReadDir(t.Context(), ".")
		size := client.LogSize(file)
		return errors.Is(err, unix.ENOTCONN) && size > 0 && size < tooLarge
	})
	if files, err := filepath.Glob(filepath.Join(cs.logDir, "*")); err != nil || len(files) != 2 {
		t.Errorf("logs %v, %v", files, err)
	}
	if lines := l.with("rotated"); len(lines) > 0 {
		t.Error(lines)
	}
}

// TestNewControl wants libgfapi where it is; the tests of the command hide it.
func TestNewControl(t *testing.T) {
	testnode.Require(t)
	for kind, want := range map[string]string{ControlAuto: ControlAPI, ControlAPI: ControlAPI, ControlFUSE: ControlFUSE} {
		control, err := NewControl(kind, nil, t.TempDir(), slog.Default())
		if err != nil || control.Kind != want || control.Why == "" {
			t.Errorf("%s: %+v, %v", kind, control.ControlInfo, err)
		}
	}
}

func parseAddress(t *testing.T, text string) gluster.Address {
	t.Helper()
	address, err := gluster.ParseAddress(text)
	must(t, err)
	return address
}

// TestFUSEControlIsFresh: what another node has done shows at once, also in what the
// Gluster client itself would remember for a second.
func TestFUSEControlIsFresh(t *testing.T) {
	testnode.Require(t)
	gv := testnode.NewGlusterVolume(t, 1, "")
	open := func() ControlPlane {
		dir := t.TempDir()
		clients := mount.NewClients(mount.Config{RunDir: filepath.Join(dir, "run"), LogDir: dir, Binary: "glusterfs", Log: slog.New(slog.DiscardHandler)})
		plane, err := openFUSE(t.Context(), parseAddress(t, gv.Address()), clients, controlUser)
		must(t, err)
		t.Cleanup(func() {
			must(t, plane.Close())
			testnode.Eventually(t, "the client ends", func() bool { return clients.Close(context.Background()) == nil && len(clients.List()) == 0 })
		})
		return plane
	}
	here, there := open(), open()
	for i := range 50 {
		must(t, there.Mkdir(t.Context(), "d", 0o755))
		if _, err := here.Lstat(t.Context(), "d"); err != nil {
			t.Fatalf("round %d: what was made: %v", i, err)
		}
		must(t, there.Rename(t.Context(), "d", fmt.Sprint("away", i)))
		if _, err := here.Lstat(t.Context(), "d"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("round %d: what was moved away: %v", i, err)
		}
	}
}
