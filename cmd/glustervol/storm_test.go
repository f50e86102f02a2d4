package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/volume"
)

const (
	// stormCalls are the calls of a storm, callers how many are under way at once.
	stormCalls = 1000
	callers    = 100
	// owedCalls is how many calls to one store that do not return the driver has at
	// most: 32 for control (gluster/calls.go) and 16 for data (mount/client.go).
	owedCalls = 32 + 16
	// badVolumes is how many volumes of the store that hangs are mounted.
	badVolumes = 8
)

// twoStores is a driver that serves two stores, of which one will give no answer.
type twoStores struct {
	t         *testing.T
	d         *driver
	good, bad string // addresses
	// known tells that the driver knows the volumes of the bad one.
	known bool
	// before is from when both answered.
	before footprint
}

// serveTwo has a driver serve two stores that answer. Both have a volume mounted.
func serveTwo(t *testing.T, flags ...string) (s *twoStores, bad *testnode.GlusterVolume) {
	t.Helper()
	good, bad := testnode.NewGlusterVolume(t, 1, ""), testnode.NewGlusterVolume(t, 1, "")
	s = &twoStores{t: t, good: good.Address(), bad: bad.Address(), known: true}
	s.d = startDriver(t, append(flags, s.good, s.bad)...)
	s.create("web", s.good)
	for i := range badVolumes {
		s.create(fmt.Sprint("bad", i), s.bad)
		s.create(fmt.Sprint("old", i), s.bad)
	}
	s.keep("web")
	s.keep("bad0")
	s.before = takeFootprint(t, s.d)
	return s, bad
}

func (s *twoStores) create(name, store string) {
	s.t.Helper()
	if _, err := tryAskOK(s.t.Context(), "Create", createBody(name, store)); err != nil {
		s.t.Fatal(err)
	}
}

func createBody(name, store string) string {
	return fmt.Sprintf(`{"Name": %q, "Opts": {"store": %q}}`, name, store)
}

// keep has a volume mounted until the end of the test.
func (s *twoStores) keep(name string) {
	s.t.Helper()
	body := fmt.Sprintf(`{"Name": %q, "ID": "keeper"}`, name)
	if _, err := tryAskOK(s.t.Context(), "Mount", body); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if _, err := tryAskOK(context.Background(), "Unmount", body); err != nil { // the test's context is over
			s.t.Error(err)
		}
	})
}

// storm puts a thousand calls about the bad store, a hundred at once, while others are
// put about the good one; midway is called in the middle of it. Threads and goroutines
// of the driver stay bounded, and those of callers who have left end.
func (s *twoStores) storm(midway func()) {
	s.t.Helper()
	end := make(chan struct{})
	var beside, callsLeft sync.WaitGroup
	beside.Go(func() { s.callGood(end) })
	beside.Go(func() { s.watch(end) })
	turns := make(chan int)
	for range callers {
		callsLeft.Go(func() {
			for turn := range turns {
				s.call(turn)
			}
		})
	}
	for turn := range stormCalls {
		if turn == stormCalls/2 {
			callsLeft.Go(midway)
		}
		turns <- turn
	}
	close(turns)
	callsLeft.Wait()
	close(end)
	beside.Wait()
	awaitFootprint(s.t, s.before, footprint{"goroutines": owedCalls + 16}, func() footprint {
		return footprint{"goroutines": goroutines(s.t)}
	})
}

// call puts one of the calls of a storm.
func (s *twoStores) call(turn int) {
	round, i := turn/7, turn/7%badVolumes
	user := fmt.Sprintf(`{"Name": "bad%d", "ID": "caller%d"}`, i, round)
	leaves := func(method, body string) { s.leaves(time.Duration(1+round%2)*time.Second, method, body) }
	fromMemory := leaves
	if s.known {
		fromMemory = s.stays
	}
	switch turn % 7 {
	case 0:
		leaves("Mount", user)
	case 1:
		leaves("Unmount", user)
	case 2:
		leaves("Create", createBody(fmt.Sprint("new", i), s.bad))
	case 3:
		leaves("Remove", fmt.Sprintf(`{"Name": "old%d"}`, i))
	case 4:
		s.stays("List", "")
	case 5:
		fromMemory("Get", user)
	case 6:
		fromMemory("Path", user)
	}
}

// leaves puts a call for a caller of little patience, whatever comes of it.
func (s *twoStores) leaves(patience time.Duration, method, body string) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if _, err := tryAsk(ctx, method, body); err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, errNoAnswer) {
		s.t.Error(err)
	}
}

// stays puts a call that must be answered.
func (s *twoStores) stays(method, body string) {
	if _, err := tryAskOK(s.t.Context(), method, body); err != nil {
		s.t.Error(err)
	}
}

// callGood puts calls about the good store until end, which have to be answered as
// fast as ever.
func (s *twoStores) callGood(end <-chan struct{}) {
	for round := 0; ; round++ {
		user := fmt.Sprintf(`{"Name": "fresh%d", "ID": "user"}`, round)
		for _, call := range []struct{ method, body string }{
			{"Create", createBody(fmt.Sprint("fresh", round), s.good)},
			{"Mount", user},
			{"Path", user},
			{"Get", user},
			{"List", ""},
			{"Unmount", user},
			{"Remove", user},
		} {
			expectAtOnce(s.t, call.method+" of the other store", func() { s.stays(call.method, call.body) })
		}
		select {
		case <-end:
			s.t.Logf("%d volumes lived on the other store", round+1)
			return
		default:
		}
	}
}

// watch sees that the driver's threads, goroutines, descriptors and memory stay
// bounded until end.
func (s *twoStores) watch(end <-chan struct{}) {
	peak := footprint{}
	for {
		now := footprint{"goroutines": goroutines(s.t)}
		now.addProcess("driver", s.d.daemon.PID())
		for what, count := range now {
			peak[what] = max(peak[what], count)
		}
		select {
		case <-end:
			s.t.Logf("before: %v; at most: %v", s.before, peak)
			for _, more := range peak.beyond(s.before, footprint{
				"goroutines":                6 * callers,
				"threads of the driver":     2 * owedCalls,  // the other store's calls have theirs
				"descriptors of the driver": 2*callers + 32, // who comes may be there before the one who left is missed
				"resident kB of the driver": 24 << 10,
			}) {
				s.t.Error("while a store hangs:", more)
			}
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// refuses puts calls whose callers stay for as long as dockerd does. Each is answered
// with an error that names the bad store.
func (s *twoStores) refuses() {
	var calls sync.WaitGroup
	for _, call := range []struct {
		method, body string
		patience     time.Duration // dockerd's
	}{
		{"Mount", `{"Name": "bad1", "ID": "patient"}`, 2 * time.Minute},
		{"Create", createBody("patient", s.bad), 2 * time.Minute},
		{"Remove", fmt.Sprintf(`{"Name": "old%d"}`, badVolumes-1), time.Minute},
	} {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(s.t.Context(), call.patience)
			defer cancel()
			start := time.Now()
			a, err := tryAsk(ctx, call.method, call.body)
			if err != nil {
				s.t.Errorf("%s of a patient caller: %v", call.method, err)
			}
			expect(s.t, a.Err, s.bad)
			s.t.Logf("%s was refused after %s: %s", call.method, time.Since(start), a.Err)
		})
	}
	calls.Wait()
}

// expectWell: both stores work, who has left does not count, and the driver holds
// about what it did before.
func (s *twoStores) expectWell() {
	s.t.Helper()
	for _, v := range []string{"web", "bad0", "bad1"} {
		testnode.Eventually(s.t, v+" can be mounted", func() bool { return mountOnce(s.t.Context(), v, "again") == nil })
	}
	s.create("afterwards", s.bad)
	for i := range badVolumes {
		users := []string{}
		if i == 0 {
			users = []string{"keeper"}
		}
		testnode.Eventually(s.t, "who has left does not count", func() bool {
			return slices.Equal(inspect(s.t, fmt.Sprint("bad", i)).Users, users)
		})
	}
	awaitFootprint(s.t, s.before, footprint{
		"goroutines":                 4,
		"descriptors of the driver":  4,
		"descriptors of the clients": 4,
		"threads of the driver":      2 * owedCalls, // Go keeps them for later
		"threads of the clients":     20,            // Gluster keeps them for two minutes
		"resident kB of the driver":  24 << 10,
		"resident kB of the clients": 8 << 10,
	}, func() footprint { return takeFootprint(s.t, s.d) })
	select {
	case <-s.d.daemon.Exited():
		s.t.Error("the driver has ended")
	default:
	}
}

// TestStormOnHungBrick: the brick of one of two stores hangs.
func TestStormOnHungBrick(t *testing.T) { overBoth(t, testStormOnHungBrick) }

func testStormOnHungBrick(t *testing.T, flag string) {
	s, bad := serveTwo(t, flag)
	resume := testnode.Hang(t, bad.BrickPID())
	patient := s.refuses
	if flag == "--control="+volume.ControlFUSE {
		patient = func() {} // they wait for as long as over libgfapi, by the same rule
	}
	s.storm(patient)
	resume()
	s.expectWell()
}

// TestStormOnHungClient: the Gluster client of one of two stores hangs. Who stays until
// it goes on gets the volume.
func TestStormOnHungClient(t *testing.T) {
	s, _ := serveTwo(t)
	resume := testnode.Hang(t, inspect(t, "bad0").Client.PID)
	var patient sync.WaitGroup
	s.storm(func() {
		patient.Go(func() {
			if err := mountOnce(t.Context(), "bad0", "patient"); err != nil {
				t.Error(err)
			}
		})
	})
	resume()
	patient.Wait()
	s.expectWell()
}

// TestStormOnMuteServer: the server of one of two stores accepts connections and never
// says a word.
func TestStormOnMuteServer(t *testing.T) {
	good := testnode.NewGlusterVolume(t, 1, "")
	testnode.Listen(t, "[::1]:24007")
	s := &twoStores{t: t, good: good.Address(), bad: "[::1]:/gv"}
	s.d = startDriver(t, s.good, s.bad)
	s.create("web", s.good)
	s.keep("web")
	s.before = takeFootprint(t, s.d)
	s.storm(s.refuses)
}
