package plugin

import "testing"

func TestManagedPath(t *testing.T) {
	for path, want := range map[string]string{
		"":                                      "",
		"/run/gv/clients/gv0-1/mnt":             "/mnt/glustervol/gv0-1",
		"/run/gv/clients/gv0-1/mnt/volumes/web": "/mnt/glustervol/gv0-1/volumes/web",
		"/run/gv/clients/gv0-1/mnt/mnt":         "/mnt/glustervol/gv0-1/mnt",
		"/elsewhere/mnt/web":                    "/elsewhere/mnt/web",
	} {
		if got := managedPath("/run/gv/clients", path); got != want {
			t.Errorf("%s is %s for dockerd, want %s", path, got, want)
		}
	}
}

// TestFormsDeadlines: a managed plugin answers within the 30 s that dockerd may wait, but
// for containers at boot.
func TestFormsDeadlines(t *testing.T) {
	legacy := Legacy("/run/docker/plugins/gv.sock")
	if legacy.Driver != "gv" || legacy.Long() != longDeadline || legacy.Short() != deadline || legacy.Path("/x") != "/x" {
		t.Errorf("%+v", legacy)
	}
	if _, err := Managed("/run/gv/clients", nil); err == nil {
		t.Error("this is a managed plugin")
	}
	booting := true
	managed := managedForm("id", "/run/gv/clients", func() bool { return booting })
	if managed.Long() != longDeadline || managed.Short() != managedDeadline {
		t.Errorf("at boot: %s, %s", managed.Long(), managed.Short())
	}
	booting = false
	if managed.Long() != managedDeadline || managed.Short() != managedDeadline {
		t.Errorf("later: %s, %s", managed.Long(), managed.Short())
	}
}

func TestDriverName(t *testing.T) {
	for name, want := range map[string]string{"gv": "gv", "gv:latest": "gv", "gv:2": "gv:2", "host/me/gv:latest": "host/me/gv"} {
		if got := driverName(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// TestPluginID: a driver tells by its socket in which form dockerd has it.
func TestPluginID(t *testing.T) {
	for socket, want := range map[string]string{
		"/run/docker/plugins/glustervol.sock":      "",
		"/run/docker/plugins/0f1e/glustervol.sock": "0f1e",
		"/tmp/test/plugin.sock":                    "",
	} {
		if got := pluginID(socket); got != want || (Info{Socket: socket}).Managed() != (want != "") {
			t.Errorf("%s: %q, want %q", socket, got, want)
		}
	}
}
