package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/glustervol/glustervol/cmd/glustervol/doctor"
	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/mount"
	"github.com/glustervol/glustervol/volume"
)

func newDoctorCommand(o *options) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "doctor [STORE...]",
		Short: "Look for what is wrong on this node and with its stores",
		Long: `Look at all that glustervol stands on, whether its driver runs or not: FUSE,
Gluster's client and libgfapi, the units and their order, the driver, its clients and
mounts, logs, Docker; and of each store the servers, bricks, replication, quorum, volume
options, TLS, format, space, and what crashes and nodes that are gone have left.

Each line is ok, skipped (it could not be looked at), a warning (it works, and may hurt
some day) or a failure, with what to do. Nothing is changed, and whatever hangs, it ends
within half a minute.

The stores are those of the running driver, else those of its configuration; or name
one, to look at it before there is a driver.

The exit code is 0 if all is well, ` + fmt.Sprint(exitWarned) + ` if there are warnings, ` + fmt.Sprint(exitFailed) + ` if there are failures.`,
		Example: `  glustervol doctor
  glustervol doctor gfs1,gfs2,gfs3:/gv0`,
		RunE: func(cmd *cobra.Command, args []string) error {
			node, clean, err := o.node(config, args)
			if err != nil {
				return err
			}
			defer clean()
			return o.printFindings(node.Examine(cmd.Context()))
		},
	}
	cmd.Flags().StringVar(&config, "config", settingsFile, "the driver's configuration, a `file` that systemd takes variables from")
	return o.jsonFlag(cmd)
}

// node is this node, for a look at it. clean removes what the look has made.
func (o *options) node(config string, args []string) (node *doctor.Node, clean func(), err error) {
	if os.Getuid() != 0 {
		return nil, nil, errors.New("what there is to look at is root's; use sudo")
	}
	given, err := parseStores(args)
	if err != nil {
		return nil, nil, usageError{err}
	}
	s, configErr := readSettings(config)
	if configErr != nil { // which is a finding, and no reason to find nothing else
		if s, _, err = parseSettings(func(string) string { return "" }); err != nil {
			return nil, nil, err
		}
	}
	o.useSocketOf(s)
	if len(given) > 0 {
		s.stores = given
	}
	report, clean, err := reporter(s)
	if err != nil {
		return nil, nil, err
	}
	node = doctor.New()
	node.Version, node.Driver = version, o.client()
	node.Config, node.ConfigErr = config, configErr
	node.Stores, node.StoresGiven, node.Report = s.stores, len(given) > 0, report
	node.PluginSocket, node.DockerSocket = s.pluginSocket, s.dockerSocket
	node.RunDir, node.LogDir, node.Glusterfs = s.runDir, s.logDir, s.glusterfs
	return node, clean, nil
}

// reporter looks at stores without a driver, as one would, in a directory of its own.
func reporter(s serveOptions) (report func(context.Context, gluster.Address) volume.StoreReport, clean func(), err error) {
	control, clean, err := ownControl(s)
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context, address gluster.Address) volume.StoreReport {
		return volume.Report(ctx, control, address)
	}, clean, nil
}

// cleanTime bounds the end of the Gluster clients that a command has started for itself.
const cleanTime = 5 * time.Second

// ownControl opens stores for a command that is not the driver, and leaves nothing behind.
func ownControl(s serveOptions) (control volume.Control, clean func(), err error) {
	dir, err := os.MkdirTemp("", "glustervol-")
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir) // as the kernel's mount table has it
	}
	if err != nil {
		return volume.Control{}, nil, err
	}
	mounts := filepath.Join(dir, "clients")
	log := slog.New(slog.DiscardHandler)
	clients := mount.NewClients(mount.Config{RunDir: mounts, LogDir: dir, Binary: s.glusterfs, Log: log})
	if control, err = volume.NewControl(s.control, clients, dir, log); err != nil {
		return volume.Control{}, nil, errors.Join(fmt.Errorf("--control: %w", err), os.Remove(dir))
	}
	return control, func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanTime)
		defer cancel()
		_ = clients.Close(ctx) // a client that hangs keeps its mount
		if err := os.Remove(mounts); err == nil || errors.Is(err, fs.ErrNotExist) {
			_ = os.RemoveAll(dir) // no mount is there, but logs
		}
	}, nil
}

// printFindings prints a line each, and tells the worst by the exit code.
func (o *options) printFindings(findings []doctor.Finding) error {
	err := o.print(findings, func(w io.Writer) {
		for _, f := range findings {
			text := f.Text
			if f.Advice != "" {
				text += "; " + f.Advice
			}
			name := f.Check
			if f.Store != "" {
				name += " " + f.Store
			}
			row(w, f.Level, name, text)
		}
	})
	switch worst := doctor.Worst(findings); {
	case err != nil:
		return err
	case worst == doctor.Failure:
		return exitError(exitFailed)
	case worst == doctor.Warning:
		return exitError(exitWarned)
	}
	return nil
}
