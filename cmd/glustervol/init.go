package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/volume"
)

// ofUnits are the flags of serve that the systemd units, or the managed plugin, decide.
var ofUnits = []string{"managed", "name", "plugin-socket", "group"}

func newInitCommand(o *options) *cobra.Command {
	i := initialiser{options: o}
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Set this node up: try the store, write the configuration, start the driver",
		Long: `Set this node up. The store is tried as the driver would use it, and made one if it is
an empty directory; only then the configuration is written, and the driver's units are
enabled and started. What else is in the configuration stays as it is, comments
included. Done again, it changes only what has to be changed: the driver is restarted,
which containers do not notice, if the configuration is another.

Without --store it is asked for on a terminal; elsewhere the one that is configured
already is taken. The other flags are those of 'glustervol serve', and are written as
settings.`,
		Example: `  glustervol init --store gfs1,gfs2,gfs3:/gv0
  glustervol init --store gfs1,gfs2,gfs3:/gv0 --trash-retention 72h`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return i.run(cmd) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&i.stores, "store", nil, "a `STORE`, SERVER[,SERVER...]:/VOLUME[/DIRECTORY]; again for more, the first is the default")
	f.StringVar(&i.config, "config", settingsFile, "the driver's configuration, a `file`; units are left alone if it is another than theirs")
	var s serveOptions
	all := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	s.addFlags(all)
	all.VisitAll(func(flag *pflag.Flag) {
		if !slices.Contains(ofUnits, flag.Name) {
			f.AddFlag(flag)
			i.settings = append(i.settings, flag)
		}
	})
	return cmd
}

// initialiser sets a node up.
type initialiser struct {
	*options
	stores []string
	config string
	// settings are the flags that are settings.
	settings []*pflag.Flag
}

func (i *initialiser) run(cmd *cobra.Command) error {
	if os.Getuid() != 0 {
		return errors.New("it writes " + i.config + " and starts the driver, which takes root; use sudo")
	}
	if info, err := i.client().Info(cmd.Context()); err == nil && info.Managed() {
		return errors.New("a managed plugin serves this node; change its settings with 'docker plugin set', as the README says")
	}
	file, err := openConfiguration(i.config)
	if err != nil {
		return err
	}
	if err := i.change(cmd, file); err != nil {
		return err
	}
	s, err := file.check()
	if err != nil {
		return err
	}
	i.useSocketOf(s)
	units := systemdUnits(i.config)
	if err := units.check(cmd.Context()); err != nil {
		return err
	}
	if err := i.try(cmd.Context(), s); err != nil {
		return err
	}
	changed, err := file.write()
	if err != nil {
		return err
	}
	i.tell(changed, "wrote "+i.config, i.config+" has all of it already")
	if units == nil {
		fmt.Fprintf(i.stdout, "no unit is started; without systemd, start the driver before Docker: 'set -a; . %s; glustervol serve $%s'\n", i.config, optionsVariable)
		return nil
	}
	return i.start(cmd.Context(), units, changed)
}

func (i *initialiser) tell(yes bool, text, otherwise string) {
	if !yes {
		text = otherwise
	}
	fmt.Fprintln(i.stdout, text)
}

// change puts what was given into the settings, and asks for what is missing.
func (i *initialiser) change(cmd *cobra.Command, file *configuration) error {
	stores := i.stores
	if len(stores) == 0 {
		var err error
		if stores, err = askStores(cmd, file.values[storeVariable]); err != nil {
			return err
		}
	}
	addresses, err := parseStores(stores)
	if err != nil {
		return usageError{err}
	}
	if err := checkTogether(addresses); err != nil {
		return usageError{err}
	}
	if err := file.set(storeVariable, storeNames(addresses)); err != nil {
		return usageError{err}
	}
	for _, flag := range i.settings {
		if flag.Changed {
			if flag.Value.String() == "" {
				return usageError{fmt.Errorf("--%s is empty, which counts as not given in the configuration; write it into %s there", flag.Name, optionsVariable)}
			}
			if err := file.set(variableOf(flag), flag.Value.String()); err != nil {
				return usageError{fmt.Errorf("--%s: %w", flag.Name, err)}
			}
		}
	}
	return nil
}

// checkTogether refuses stores that the driver would not serve together, or that the
// configuration cannot hold.
func checkTogether(stores []gluster.Address) error {
	for n, a := range stores {
		if strings.Contains(a.String(), " ") {
			return fmt.Errorf("store address %q has a space in it, which stands between stores in the configuration", a)
		}
		for _, b := range stores[:n] {
			if a.Overlaps(b) {
				return fmt.Errorf("stores %s and %s share files", b, a)
			}
		}
	}
	return nil
}

// askStores asks a person on the terminal until the answer is an address.
func askStores(cmd *cobra.Command, configured string) ([]string, error) {
	in, isFile := cmd.InOrStdin().(*os.File)
	if !isFile || !term.IsTerminal(int(in.Fd())) {
		if stores := strings.Fields(configured); len(stores) > 0 {
			return stores, nil
		}
		return nil, usageError{errors.New("nobody can be asked here; say --store, such as '--store gfs1,gfs2,gfs3:/gv0'")}
	}
	question := "Where are the volumes to be? A Gluster volume, or a directory in one, such as gfs1,gfs2,gfs3:/gv0"
	if configured != "" {
		question += " [" + configured + "]"
	}
	for answers := bufio.NewReader(in); ; {
		fmt.Fprint(cmd.ErrOrStderr(), question+": ")
		answer, err := answers.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("no answer: %w", err)
		}
		if strings.TrimSpace(answer) == "" {
			answer = configured
		}
		stores := strings.Fields(answer)
		if _, err = parseStores(stores); err == nil && len(stores) > 0 {
			return stores, nil
		}
		if err != nil {
			fmt.Fprintln(cmd.ErrOrStderr(), err)
		}
	}
}

// tryTime bounds the trial of a store that has just answered.
const tryTime = 10 * time.Second

// try opens the stores as the driver would.
func (i *initialiser) try(ctx context.Context, s serveOptions) error {
	control, clean, err := ownControl(s)
	if err != nil {
		return err
	}
	defer clean()
	for _, address := range s.stores { // all are looked at before one is made
		if r := volume.Report(ctx, control, address); r.Trouble != "" {
			return fmt.Errorf("nothing was written: %s; 'glustervol doctor %s' says more", r.Trouble, address)
		}
	}
	for _, address := range s.stores {
		ctx, cancel := context.WithTimeout(ctx, tryTime)
		err := volume.TryStore(ctx, control, address)
		cancel()
		if err != nil {
			return fmt.Errorf("nothing was written: %w; 'glustervol doctor %s' says more", err, address)
		}
		fmt.Fprintf(i.stdout, "%s answers, and is a store\n", address)
	}
	return nil
}

// serviceUnit is the driver's.
const serviceUnit = "glustervol.service"

// driverUnits are the driver's, nil where there is no systemd, or they have other settings.
type driverUnits []string

func systemdUnits(config string) driverUnits {
	if _, err := os.Stat("/run/systemd/system"); err != nil || config != settingsFile {
		return nil
	}
	return driverUnits{"glustervol.socket", serviceUnit}
}

// check tells whether they are installed.
func (u driverUnits) check(ctx context.Context) error {
	for _, name := range u {
		if err := systemctl(ctx, io.Discard, "cat", name); err != nil {
			return fmt.Errorf("nothing was written: %s is not installed; 'make install', or install the package", name)
		}
	}
	return nil
}

// startTime is how long the driver may take to reach its stores when it was started.
const startTime = 30 * time.Second

// start enables the units, and has the driver run with these settings.
func (i *initialiser) start(ctx context.Context, u driverUnits, changed bool) error {
	if err := systemctl(ctx, i.stderr, append([]string{"enable"}, u...)...); err != nil {
		return err
	}
	// The service alone: it takes the socket along, and a socket that is started anew loses
	// what Docker has asked meanwhile.
	if active := systemctl(ctx, io.Discard, "is-active", serviceUnit) == nil; active && !changed {
		fmt.Fprintln(i.stdout, "the driver runs already")
		return nil
	}
	if err := systemctl(ctx, i.stderr, "restart", serviceUnit); err != nil {
		return fmt.Errorf("%w; 'journalctl -u %s' says why", err, serviceUnit)
	}
	return i.awaitStores(ctx)
}

// awaitStores returns when the driver has reached all stores.
func (i *initialiser) awaitStores(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		info, err := i.client().Info(ctx)
		reached := func(s volume.StoreInfo) bool { return s.Reached && s.Trouble == "" }
		if err == nil && !slices.ContainsFunc(info.Stores, func(s volume.StoreInfo) bool { return !reached(s) }) {
			fmt.Fprintln(i.stdout, "the driver runs, and has reached its stores")
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("the driver was started, and has not reached its stores yet; 'glustervol info' and 'glustervol doctor' say why")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// systemctl runs it, and prints to w what it says.
func systemctl(ctx context.Context, w io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("systemctl %s: %w", strings.Join(args, " "), err)
	}
	return nil
}
