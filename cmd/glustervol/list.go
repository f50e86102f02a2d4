package main

import (
	"io"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
)

func newListCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the volumes",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := o.client().List(cmd.Context())
			if err != nil {
				return err
			}
			return o.print(list, func(w io.Writer) {
				row(w, "NAME", "STORE", "PATH", "CREATED", "USERS HERE")
				for _, v := range list {
					row(w, v.Name, v.Store, v.Path, age(v.Created), len(v.Users))
				}
			})
		},
	}
	return o.jsonFlag(cmd)
}

// age tells roughly how long ago something was, by this node's clock.
func age(t time.Time) string {
	return units.HumanDuration(max(0, time.Since(t))) + " ago"
}
