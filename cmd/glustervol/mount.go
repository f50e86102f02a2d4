package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newMountCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mount NAME",
		Short: "Mount a volume on this node and print its path",
		Long: `Mount a volume on this node and print its path, to look at its files or copy
some. It counts as in use until 'glustervol unmount'.`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: o.volumeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := o.client().Mount(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if o.json {
				return o.print(map[string]string{"mountpoint": path}, nil)
			}
			_, err = fmt.Fprintln(o.stdout, path)
			return err
		},
	}
	return o.jsonFlag(cmd)
}

func newUnmountCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "unmount NAME",
		Aliases:           []string{"umount"},
		Short:             "End what 'mount' has begun",
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: o.volumeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.client().Unmount(cmd.Context(), args[0])
		},
	}
}
