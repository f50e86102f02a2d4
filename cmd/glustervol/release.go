package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newReleaseCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "release [NAME...]",
		Short: "Have this node's Docker forget volumes, which stay",
		Long: `Have this node's Docker forget volumes, by default all that no container of this
node uses. They stay as they are, and Docker finds them again when they are used.

Docker notes by the name of which driver it has used a volume, takes it from no
other one, and waits for that driver at its start. So release the volumes before this
node goes from a driver of the host to the managed plugin or back, or without either.
Labels that Docker has given them are lost.`,
		ValidArgsFunction: o.volumeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			released, err := o.client().Release(cmd.Context(), args)
			for _, name := range released {
				fmt.Fprintln(o.stdout, name)
			}
			return err
		},
	}
}
