package main

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/glustervol/glustervol/plugin"
)

func newInspectCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "inspect NAME...",
		Short:             "Show all about volumes",
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: o.volumeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			list := make([]plugin.VolumeInfo, 0, len(args))
			for _, name := range args {
				v, err := o.client().Inspect(cmd.Context(), name)
				if err != nil {
					return err
				}
				list = append(list, v)
			}
			return o.print(list, func(w io.Writer) {
				for i, v := range list {
					if i > 0 {
						fmt.Fprintln(w)
					}
					printVolume(w, v)
				}
			})
		},
	}
	return o.jsonFlag(cmd)
}

func printVolume(w io.Writer, v plugin.VolumeInfo) {
	row(w, "Name:", v.Name)
	row(w, "ID:", v.ID)
	row(w, "Store:", v.Store)
	row(w, "Path:", v.Path)
	row(w, "Created:", v.Created.Format(time.RFC3339))
	row(w, "Owner:", fmt.Sprintf("uid %s, gid %s, mode %s", number(v.Options.UID), number(v.Options.GID), cmp.Or(v.Options.Mode, "as it is")))
	row(w, "On remove:", v.Options.OnRemove)
	if v.SizeLimit > 0 {
		row(w, "Size limit:", units.BytesSize(float64(v.SizeLimit)))
	}
	row(w, "Client:", fmt.Sprintf("%s, %s, pid %d", v.Client.Key, v.Client.Health, v.Client.PID))
	if v.Options.ClientOptions != "" {
		row(w, "Client options:", v.Options.ClientOptions)
	}
	row(w, "Control plane:", fmt.Sprintf("%s: %s", v.Control.Kind, v.Control.Why))
	row(w, "Mountpoint:", cmp.Or(v.Mountpoint, "not mounted on this node"))
	row(w, "Users here:", cmp.Or(strings.Join(v.Users, ", "), "none"))
	for _, h := range v.Healings {
		if h.Error != "" {
			row(w, "To be restarted:", h)
		} else {
			row(w, "Healed:", h)
		}
	}
	if v.Trouble != "" {
		row(w, "Trouble:", v.Trouble)
	}
}

func number(id *int) string {
	if id == nil {
		return "as it is"
	}
	return strconv.Itoa(*id)
}
