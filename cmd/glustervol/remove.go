package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func newRemoveCommand(o *options) *cobra.Command {
	var keepData bool
	var store string
	cmd := &cobra.Command{
		Use:     "rm NAME...",
		Aliases: []string{"remove", "delete"},
		Short:   "Remove volumes",
		Long: `Remove volumes that nobody uses. What becomes of the data is each volume's
option on-remove: by default it waits in the trash for 'trash restore' or
'trash empty'. Docker may remember the volume until 'docker volume rm'.`,
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: o.volumeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			var errs []error
			for _, name := range args {
				if err := o.client().Remove(cmd.Context(), name, store, keepData); err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintln(o.stdout, name)
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVar(&keepData, "keep-data", false, "forget the volume, and leave its directory where it is")
	cmd.Flags().StringVar(&store, "store", "", "the `ADDRESS` of the volume's store, if several have the name")
	return cmd
}
