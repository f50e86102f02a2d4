package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/glustervol/glustervol/plugin"
)

func newInfoCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Show the driver: its stores and Gluster clients",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, err := o.client().Info(cmd.Context())
			if err != nil {
				return err
			}
			return o.print(info, func(w io.Writer) { printInfo(w, info) })
		},
	}
	return o.jsonFlag(cmd)
}

func printInfo(w io.Writer, info plugin.Info) {
	row(w, "Version:", info.Version)
	row(w, "Node:", info.Node.ID)
	row(w, "PID:", info.PID)
	row(w, "Plugin socket:", info.Socket)
	row(w, "Docker:", info.Docker)
	for _, s := range info.Stores {
		name := "Store:"
		if s.Default {
			name = "Default store:"
		}
		state := "reached"
		switch {
		case s.Trouble != "":
			state = "NOT reached: " + s.Trouble
		case s.Unwritable != "":
			state = "reached, but NOT to be written: " + s.Unwritable
		case !s.Reached:
			state = "not reached yet"
		}
		row(w, name, fmt.Sprintf("%s, %d volumes, %s", s.Address, s.Volumes, state))
		row(w, "", fmt.Sprintf("control plane %s: %s", s.Control.Kind, s.Control.Why))
	}
	for _, c := range info.Clients {
		row(w, "Client:", fmt.Sprintf("%s, %s, pid %d, used by %s", c.Key, c.Health, c.PID, cmp.Or(strings.Join(c.Users, ", "), "nobody")))
		row(w, "", c.LogFile)
	}
}
