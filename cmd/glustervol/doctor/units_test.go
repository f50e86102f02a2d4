package doctor

import (
	"strings"
	"testing"
)

// TestUnits has a systemctl that answers as systemd 252 does: no systemd runs where the
// tests do.
func TestUnits(t *testing.T) {
	const well = `Id=glustervol.service
LoadState=loaded
UnitFileState=enabled
ActiveState=active
Before=multi-user.target shutdown.target docker.service
After=basic.target glustervol.socket

Id=glustervol.socket
LoadState=loaded
UnitFileState=enabled
ActiveState=active
Before=sockets.target
After=sysinit.target

Id=docker.service
LoadState=loaded
UnitFileState=enabled
ActiveState=active
Before=multi-user.target
After=glustervol.service
`
	change := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(well) }
	for _, tt := range []struct {
		doc, show string
		level     Level
		words     []string
	}{
		{"well", well, OK, []string{"enabled", "before docker.service"}},
		{"not installed", change("Id=glustervol.service\nLoadState=loaded", "Id=glustervol.service\nLoadState=not-found"), Warning, []string{"not installed", "make install"}},
		{"the service is disabled", change("glustervol.service\nLoadState=loaded\nUnitFileState=enabled", "glustervol.service\nLoadState=loaded\nUnitFileState=disabled"), Failure, []string{"glustervol.service is disabled", "systemctl enable"}},
		{"the socket is disabled", change("glustervol.socket\nLoadState=loaded\nUnitFileState=enabled", "glustervol.socket\nLoadState=loaded\nUnitFileState=disabled"), Failure, []string{"glustervol.socket is disabled", "systemctl enable"}},
		{"failed", change("UnitFileState=enabled\nActiveState=active\nBefore=multi-user.target shutdown", "UnitFileState=enabled\nActiveState=failed\nBefore=multi-user.target shutdown"), Failure, []string{"has failed", "journalctl"}},
		{"not before Docker", change("shutdown.target docker.service", "shutdown.target"), Failure, []string{"does not come before docker.service", "systemctl cat"}},
		{"behind Docker", change("After=basic.target", "After=docker.service"), Failure, []string{"comes after docker.service"}},
		{"without Docker", change("shutdown.target docker.service", "shutdown.target", "Id=docker.service\nLoadState=loaded", "Id=docker.service\nLoadState=not-found"), OK, nil},
	} {
		t.Run(tt.doc, func(t *testing.T) {
			n := alone(t)
			n.systemd = t.TempDir()
			n.systemctl = write(t, "systemctl", "#!/bin/sh\ncat <<'END'\n"+tt.show+"END\n")
			expect(t, n.checkUnits(t.Context()), tt.level, tt.words...)
		})
	}
	n := alone(t)
	n.systemd = "/nonexistent"
	expect(t, n.checkUnits(t.Context()), Skipped, "no systemd here")
	n.systemd, n.systemctl = t.TempDir(), "/bin/false"
	expect(t, n.checkUnits(t.Context()), Failure, "systemctl show")
	expect(t, managed(t).checkUnits(t.Context()), Skipped, "dockerd starts the managed plugin")
}
