package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/glustervol/glustervol/plugin"
)

func newReleaseCommand(o *options) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "release [--all | NAME...]",
		Short: "Have this node's Docker forget volumes, which stay",
		Long: `Have this node's Docker forget volumes, by default all that no container of this
node uses. They stay as they are, and Docker finds them again when they are used.

Docker notes by the name of which driver it has used a volume, takes it from no
other one, and waits for that driver at its start. So release the volumes before this
node goes from a driver of the host to the managed plugin or back, or without either.
Labels that Docker has given them are lost.`,
		Args: args(func(_ *cobra.Command, args []string) error {
			if all && len(args) > 0 {
				return errors.New("--all takes no names")
			}
			return nil
		}),
		ValidArgsFunction: o.volumeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			released, err := release(cmd.Context(), o.client(), args, all)
			for _, name := range released {
				fmt.Fprintln(o.stdout, name)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all volumes, or none: fail when a container of this node uses one")
	return cmd
}

func release(ctx context.Context, client *plugin.AdminClient, names []string, all bool) ([]string, error) {
	if all {
		return client.ReleaseAll(ctx)
	}
	return client.Release(ctx, names)
}
