package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/glustervol/glustervol/plugin"
)

const defaultAdminSocket = "/run/glustervol/admin.sock"

// options are what commands share.
type options struct {
	socket string
	json   bool
	stdout io.Writer
	stderr io.Writer
}

func (o *options) client() *plugin.AdminClient { return plugin.NewAdminClient(o.socket) }

// print writes a value as JSON, or has table write it for people.
func (o *options) print(value any, table func(w io.Writer)) error {
	if o.json {
		e := json.NewEncoder(o.stdout)
		e.SetIndent("", "  ")
		return e.Encode(value)
	}
	w := tabwriter.NewWriter(o.stdout, 0, 0, 3, ' ', 0)
	table(w)
	return w.Flush()
}

// row writes a line of a table.
func row(w io.Writer, cells ...any) {
	texts := make([]string, 0, len(cells))
	for _, cell := range cells {
		texts = append(texts, fmt.Sprint(cell))
	}
	fmt.Fprintln(w, strings.Join(texts, "\t"))
}

func newRootCommand(stdout, stderr io.Writer) *cobra.Command {
	o := &options{stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "glustervol",
		Short: "Docker volumes on GlusterFS",
		Long: `glustervol is a Docker volume driver that mounts GlusterFS itself, and the
command line to the driver that runs on this node.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("there is no command %q; 'glustervol --help' lists them", args[0])}
			}
			return nil
		},
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())}
	})
	root.PersistentFlags().StringVar(&o.socket, "socket", defaultAdminSocket, "the driver's admin `socket`")
	root.AddCommand(
		newServeCommand(o),
		newInitCommand(o),
		newCreateCommand(o),
		newListCommand(o),
		newInspectCommand(o),
		newRemoveCommand(o),
		newMountCommand(o),
		newUnmountCommand(o),
		newReleaseCommand(o),
		newTrashCommand(o),
		newNodeCommand(o),
		newInfoCommand(o),
		newDoctorCommand(o),
		newSupportBundleCommand(o),
		newVersionCommand(o),
	)
	return root
}

// jsonFlag gives a command --json.
func (o *options) jsonFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return cmd
}

// args makes a wrong number of arguments an error of usage, with the right form.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w; it is '%s'", err, cmd.UseLine())}
		}
		return nil
	}
}

// volumeNames completes the names of volumes.
func (o *options) volumeNames(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	list, err := o.client().List(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names := make([]string, 0, len(list))
	for _, v := range list {
		names = append(names, v.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
