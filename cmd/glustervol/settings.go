package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/hashicorp/go-envparse"
	"github.com/spf13/pflag"

	"github.com/glustervol/glustervol/gluster"
)

// settingsFile is what the driver's systemd unit takes variables from, and
// optionsVariable has further arguments for serve there.
const (
	settingsFile    = "/etc/default/glustervol"
	optionsVariable = "GLUSTERVOL_OPTS"
)

// readSettings tells how systemd would start the driver: what the file says, else this
// process's environment. A file that is not there says nothing.
func readSettings(file string) (s serveOptions, err error) {
	values := map[string]string{}
	f, err := os.Open(file)
	if err == nil {
		values, err = envparse.Parse(f)
		_ = f.Close() // it was only read
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("%s: %w", file, err)
	}
	getenv := func(name string) string { return cmp.Or(values[name], os.Getenv(name)) }
	if s, err = parseSettings(getenv); err != nil {
		return s, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

func parseSettings(getenv func(string) string) (s serveOptions, err error) {
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	s.addFlags(flags)
	flags.StringVar(&s.adminSocket, "socket", defaultAdminSocket, "")
	if err := flags.Parse(strings.Fields(getenv(optionsVariable))); err != nil {
		return s, err
	}
	if err := errors.Join(fromEnvironment(flags, getenv), s.applyName(flags)); err != nil {
		return s, err
	}
	stores := flags.Args()
	if len(stores) == 0 {
		stores = strings.Fields(getenv(storeVariable))
	}
	if len(stores) == 0 {
		return s, nil
	}
	return s, s.parse(stores)
}

// parseStores reads addresses of stores.
func parseStores(texts []string) (stores []gluster.Address, err error) {
	for _, text := range texts {
		address, err := gluster.ParseAddress(text)
		if err != nil {
			return nil, err
		}
		stores = append(stores, address)
	}
	return stores, nil
}
