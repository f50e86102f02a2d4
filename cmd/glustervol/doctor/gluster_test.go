package doctor

import (
	"os"
	"strings"
	"testing"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/volume"
)

func parse(t *testing.T, text string) gluster.Address {
	t.Helper()
	address, err := gluster.ParseAddress(text)
	must(t, err)
	return address
}

func TestServers(t *testing.T) {
	testnode.Gluster(t)
	n := alone(t)
	check := func(store string) []Finding { return n.checkServers(t.Context(), parse(t, store)) }
	expectLevels := func(found []Finding, want ...Level) {
		t.Helper()
		if got := levelsOf(found); len(got) != len(want) {
			t.Errorf("%v, want %v: %+v", got, want, found)
		}
		for i := range want {
			if found[i].Level != want[i] {
				t.Errorf("%+v, want %s", found[i], want[i])
			}
		}
	}
	expectLevels(check("gfs1,gfs2:/gv0"), OK, OK)
	one := check("gfs1:/gv0")
	expectLevels(one, OK, Warning)
	expectAmong(t, one, Warning, "names one server", "name more")
	unknown := check("gfs1,nosuch.invalid:/gv0")
	expectLevels(unknown, OK, Warning)
	expectAmong(t, unknown, Warning, "nosuch.invalid", "cannot be resolved", "/etc/hosts")
	testnode.Filter(t, "198.51.100.2", "24007", "REJECT")
	refused := check("gfs1,gfs2:/gv0")
	expectLevels(refused, OK, Warning)
	expectAmong(t, refused, Warning, "gfs2", "no glusterd answers", "refused", "24007")
	testnode.Filter(t, "198.51.100.3", "24007", "DROP")
	all := check("gfs2,gfs3:/gv0")
	expectLevels(all, Failure, Failure)
	expectAmong(t, all, Failure, "gfs3", "timeout")
}

func TestBricks(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 3, "", "replica", "3")
	n := alone(t)
	check := func() []Finding { return n.checkBricks(t.Context(), look(t, gv.Address())) }
	for _, f := range check() {
		if f.Level != OK {
			t.Errorf("%+v", f)
		}
	}
	gv.KillBricks(gv.Bricks[1])
	found := check()
	expectAmong(t, found, Failure, gv.Bricks[1], "NOT connected, its server is there", "gluster volume status "+gv.Name, "49152")
	expectAmong(t, found, OK, gv.Bricks[0], "is connected")
	gv.KillBricks(gv.Bricks[0], gv.Bricks[2])
	report := look(t, gv.Address())
	expectAmong(t, checkStore(report), Failure, "brick")
	for _, b := range gv.Bricks { // no brick has ever answered, and they are known all the same
		expectAmong(t, n.checkBricks(t.Context(), report), Warning, b, "is not known, its server is there")
	}
	testnode.Filter(t, testnode.Address, "24007", "REJECT")
	expectAmong(t, n.checkBricks(t.Context(), report), Failure, gv.Bricks[0], "no glusterd answers")
	away := look(t, gv.Address())
	expect(t, n.checkBricks(t.Context(), away), Skipped, "not known")
	if found := checkStore(away); !strings.HasPrefix(found[0].Text, "cannot connect to "+gv.Address()+": no glusterd answers") {
		t.Errorf("%+v", found)
	}
}

// TestReplication: each kind of Gluster volume.
func TestReplication(t *testing.T) {
	for _, tt := range []struct {
		doc                 string
		bricks              int
		kind                []string
		replication, quorum Level
		words, quorumWords  []string
	}{
		{"one brick", 1, nil, Warning, Skipped, []string{"on one brick only"}, []string{"not replicated"}},
		{"replica 2", 2, []string{"replica", "2"}, Warning, Warning, []string{"replica 2 without an arbiter", "split-brain", "arbiter 1"}, []string{"none", "write on"}},
		{"arbiter", 3, []string{"replica", "3", "arbiter", "1"}, OK, OK, []string{"replica 3, 1 of it an arbiter"}, nil},
		{"dispersed", 3, []string{"disperse", "3", "redundancy", "1"}, OK, Skipped, []string{"1 of 3 bricks may be away"}, nil},
	} {
		t.Run(tt.doc, func(t *testing.T) {
			gv := testnode.NewGlusterVolume(t, tt.bricks, "", tt.kind...)
			var report volume.StoreReport
			testnode.Eventually(t, "the volume file is known", func() bool { // glusterd may be busy still with the start
				report = look(t, gv.Address())
				return report.GraphTrouble == ""
			})
			expect(t, checkReplication(report), tt.replication, tt.words...)
			expect(t, checkQuorum(report), tt.quorum, tt.quorumWords...)
			if tt.doc == "replica 2" {
				testnode.RunGluster(t, "volume", "set", gv.Name, "cluster.quorum-type", "auto")
				expect(t, checkQuorum(look(t, gv.Address())), Warning, "auto, and replica 2")
			}
		})
	}
	none := volume.StoreReport{GraphTrouble: "no server"}
	expect(t, checkReplication(none), Skipped, "no server")
	expect(t, checkQuorum(none), Skipped, "no server")
	expect(t, checkOptions(none), Skipped, "no server")
}

// TestOptions sets each option that hurts on a real Gluster volume, and finds it.
func TestOptions(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 3, "", "replica", "3")
	set := func(option, value string) volume.StoreReport {
		t.Helper()
		testnode.RunGluster(t, "volume", "set", gv.Name, option, value)
		return look(t, gv.Address())
	}
	expect(t, checkOptions(look(t, gv.Address())), OK)
	for _, tt := range []struct {
		option, value string
		level         Level
	}{
		{"network.ping-timeout", "120", Failure},
		{"network.ping-timeout", "5", Warning},
		{"cluster.favorite-child-policy", "mtime", Warning},
		{"cluster.ensure-durability", "off", Warning},
		{"cluster.halo-enabled", "yes", Failure},
		{"cluster.lookup-unhashed", "off", Warning},
		{"cluster.rsync-hash-regex", "none", Warning},
		{"performance.nl-cache", "on", Warning},
		{"performance.md-cache-timeout", "600", Warning},
		{"features.shard", "on", Warning},
	} {
		expect(t, checkOptions(set(tt.option, tt.value)), tt.level, tt.option, gv.Name)
		if tt.option != "performance.md-cache-timeout" {
			testnode.RunGluster(t, "volume", "reset", gv.Name, tt.option)
			continue
		}
		expect(t, checkOptions(set("performance.cache-invalidation", "on")), OK) // the bricks tell of changes
		testnode.RunGluster(t, "volume", "reset", gv.Name, tt.option)
	}
	expect(t, checkQuorum(look(t, gv.Address())), OK)
	expect(t, checkQuorum(set("cluster.quorum-type", "none")), Failure, "none (1 of 3 bricks", "cluster.quorum-type auto")
	set("cluster.quorum-type", "fixed")
	expect(t, checkQuorum(set("cluster.quorum-count", "1")), Failure, "fixed (1 of 3 bricks")
	expect(t, checkQuorum(set("cluster.quorum-count", "2")), OK)
}

// TestHurtful: each option that hurts is one that TestOptions sets.
func TestHurtful(t *testing.T) {
	text, err := os.ReadFile("gluster_test.go")
	must(t, err)
	for _, s := range hurtful {
		if !strings.Contains(string(text), `{"`+s.name+`"`) {
			t.Errorf("no test sets %s", s.name)
		}
	}
}
