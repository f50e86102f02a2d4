package doctor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

const (
	serviceUnit = "glustervol.service"
	socketUnit  = "glustervol.socket"
	dockerUnit  = "docker.service"
)

const enableUnits = "'systemctl enable --now " + socketUnit + " " + serviceUnit + "'"

// checkUnits is about the boot: a Docker that comes up without the driver waits 15 s for
// each volume, and starts no container that has one.
func (n *Node) checkUnits(ctx context.Context) []Finding {
	if n.managed() {
		return one(skipped("dockerd starts the managed plugin"))
	}
	if _, err := os.Stat(n.systemd); err != nil {
		return one(skipped("no systemd here; whatever starts the driver has to start it before Docker"))
	}
	units, err := n.showUnits(ctx)
	if err != nil {
		return one(failure("", "%v", err))
	}
	service, docker := units[serviceUnit], units[dockerUnit]
	if service["LoadState"] != "loaded" {
		return one(warning("'make install', or install the package", "%s is not installed, so nothing starts the driver at boot", serviceUnit))
	}
	var found []Finding
	for _, name := range []string{socketUnit, serviceUnit} {
		if state := units[name]["UnitFileState"]; state != "enabled" {
			found = append(found, failure(enableUnits, "%s is %s, so the driver is not there at boot", name, state))
		}
	}
	if service["ActiveState"] == "failed" {
		found = append(found, failure("'journalctl -u "+serviceUnit+"' says why", "%s has failed", serviceUnit))
	}
	if docker["LoadState"] == "loaded" {
		found = append(found, checkOrder(service)...)
	}
	if len(found) == 0 {
		return one(ok("%s is enabled, and comes before %s", serviceUnit, dockerUnit))
	}
	return found
}

func checkOrder(service map[string]string) []Finding {
	advice := "look for drop-ins: 'systemctl cat " + serviceUnit + "'; it has to have Before=" + dockerUnit + " and must not come after that"
	switch {
	case slices.Contains(strings.Fields(service["After"]), dockerUnit):
		return one(failure(advice, "%s comes after %s", serviceUnit, dockerUnit))
	case !slices.Contains(strings.Fields(service["Before"]), dockerUnit):
		return one(failure(advice, "%s does not come before %s", serviceUnit, dockerUnit))
	}
	return nil
}

// showUnits is what systemd knows of the units, by name and property.
func (n *Node) showUnits(ctx context.Context) (map[string]map[string]string, error) {
	out, err := exec.CommandContext(ctx, n.systemctl, "show", "--property=Id,LoadState,UnitFileState,ActiveState,Before,After",
		serviceUnit, socketUnit, dockerUnit).Output()
	if err != nil {
		return nil, fmt.Errorf("systemctl show: %w", err)
	}
	units := map[string]map[string]string{}
	for block := range strings.SplitSeq(string(out), "\n\n") {
		properties := map[string]string{}
		for line := range strings.Lines(block) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			properties[key] = value
		}
		units[properties["Id"]] = properties
	}
	return units, nil
}
