package main

import (
	"bufio"
	"os"
	"strings"
	"testing"
)

// TestUnit: the rights that systemd leaves to the driver and to its clients are
// enough for all that they do, on either control plane.
func TestUnit(t *testing.T) { overBoth(t, testUnit) }

func testUnit(t *testing.T, flag string) {
	capabilities := strings.Fields(strings.ToLower(unitSetting(t, "CapabilityBoundingSet")))
	if unitSetting(t, "NoNewPrivileges") != "yes" {
		t.Error("the unit does not say NoNewPrivileges=yes")
	}
	gv, d := startNode(t, flag)
	d.stop()
	d.wrapper = []string{"setpriv", "--no-new-privs", "--bounding-set=-all"}
	for _, c := range capabilities {
		d.wrapper[2] += ",+" + strings.TrimPrefix(c, "cap_")
	}
	d.start()
	create(t, "owned", "uid=7", "gid=8", "mode=2750")
	h := startHeart(t, gv, "heart", "web")
	startContainer(t, "user", "--user=7:8", "-v=owned:/data")
	if got := execScript(t, "user", "stat -c %u:%g:%a /data"); got != "7:8:2750" {
		t.Errorf("owner and mode %s", got)
	}
	execScript(t, "user", "mkdir -m 700 /data/d && echo mine > /data/d/f && chmod 400 /data/d/f")
	killClient(t, "web")
	h.beatsOn(t)
	awaitHealed(t, "user", "cat /data/d/f", "mine")
	d.kill()
	d.start()
	h.beatsOn(t)
	docker(t, "rm", "--force", "heart", "user")
	expectUnused(t, "web", "owned")
	docker(t, "volume", "rm", "owned")
	cli(t, "trash", "empty")
	if left := cli(t, "trash", "ls"); strings.Contains(left, "owned") {
		t.Errorf("in the trash: %s", left)
	}
}

// unitSetting is the value of a setting in the driver's systemd unit.
func unitSetting(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open("../../hack/systemd/glustervol.service")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), name+"="); found {
			return value
		}
	}
	t.Fatalf("the unit has no %s", name)
	return ""
}
