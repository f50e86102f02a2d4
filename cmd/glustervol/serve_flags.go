package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/glustervol/glustervol/plugin"
	"github.com/glustervol/glustervol/volume"
)

// fromEnvironment sets the flags that the command line has not, from variables:
// GLUSTERVOL_LOG_LEVEL is --log-level. A variable that is empty counts as not there,
// since 'docker plugin set' can take back no setting.
func fromEnvironment(flags *pflag.FlagSet, getenv func(string) string) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		variable := variableOf(f)
		value := getenv(variable)
		if err != nil || f.Changed || value == "" || f.Name == "help" {
			return
		}
		if setErr := flags.Set(f.Name, value); setErr != nil {
			err = fmt.Errorf("%s: %w", variable, setErr)
		}
	})
	return err
}

// variableOf is the variable of a flag.
func variableOf(f *pflag.Flag) string {
	return "GLUSTERVOL_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}

// defaultName is the name of a driver that is given none; it is in the default paths.
const defaultName = "glustervol"

// applyName puts the driver's name, and the form that dockerd has it in, into the paths
// that were not given.
func (s *serveOptions) applyName(flags *pflag.FlagSet) error {
	if volume.CheckName(s.name) != nil {
		return fmt.Errorf("--name is of letters, digits, '_', '.' and '-', as a volume's, not %q", s.name)
	}
	named := func(flag string) string {
		return strings.ReplaceAll(flags.Lookup(flag).DefValue, defaultName, s.name)
	}
	type setting struct{ flag, value string }
	settings := []setting{
		{"plugin-socket", named("plugin-socket")},
		{"socket", named("socket")},
		{"run-dir", named("run-dir")},
		{"state-dir", named("state-dir")},
		{"log-dir", named("log-dir")},
	}
	if s.managed {
		settings[0].value = plugin.ManagedSocket
		settings = append(settings, setting{"docker-socket", filepath.Join(plugin.ManagedHost, named("docker-socket"))})
	}
	for _, one := range settings {
		if s.managed && one.flag == "log-dir" { // what is written elsewhere ends with the plugin's container
			one.value = filepath.Join(flags.Lookup("state-dir").Value.String(), "log")
		}
		if flags.Changed(one.flag) {
			continue
		}
		if err := flags.Set(one.flag, one.value); err != nil {
			return err
		}
	}
	return nil
}
