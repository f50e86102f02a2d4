package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newNodeCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "List the nodes that share the volumes, and forget those that are gone",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newNodeListCommand(o), newNodeForgetCommand(o))
	return cmd
}

func newNodeListCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the nodes, and for how long they have not been heard of",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := o.client().Nodes(cmd.Context())
			if list == nil && err != nil {
				return err
			}
			printErr := o.print(list, func(w io.Writer) {
				row(w, "NODE", "STORE", "STATE", "UNHEARD OF FOR", "VOLUMES IN USE")
				for _, n := range list {
					row(w, n.Node, n.Store, n.State, time.Duration(n.Silence)*time.Second, n.Volumes)
				}
			})
			return errors.Join(printErr, err)
		},
	}
	return o.jsonFlag(cmd)
}

func newNodeForgetCommand(o *options) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "forget NODE",
		Short: "Say that a node is gone for good",
		Long: `Say that a node is gone for good. What it uses, as far as the others know, can
be removed from then on. A node that is alive is refused. Should the node come
back, it tells anew what it uses, and logs which of that was removed meanwhile.`,
		Example: `  glustervol node ls
  glustervol node forget node3-5f0c2ab1`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				if err := confirm(cmd, fmt.Sprintf("What node %s uses may be removed then. Is it gone for good?", args[0])); err != nil {
					return err
				}
			}
			if err := o.client().Forget(cmd.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintln(o.stdout, args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// confirm asks a person on the terminal. Who is none has to say --yes.
func confirm(cmd *cobra.Command, question string) error {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usageError{errors.New("nobody can be asked here; say --yes")}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.EqualFold(strings.TrimSpace(answer), "y") {
		return errors.New("nothing was done")
	}
	return nil
}
