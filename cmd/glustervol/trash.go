package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/glustervol/glustervol/volume"
)

func newTrashCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trash",
		Short: "List, restore and purge removed volumes",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTrashListCommand(o), newTrashRestoreCommand(o), newTrashEmptyCommand(o))
	return cmd
}

func newTrashListCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the removed volumes that can be restored",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := o.client().Trash(cmd.Context())
			if list == nil && err != nil {
				return err
			}
			printErr := o.print(list, func(w io.Writer) {
				row(w, "ENTRY", "VOLUME", "STORE", "REMOVED", "STATE")
				for _, t := range list {
					state := "to be restored"
					if t.Purging {
						state = "being purged"
					}
					row(w, t.Entry, t.Name, t.Store, age(t.Removed), state)
				}
			})
			return errors.Join(printErr, err)
		},
	}
	return o.jsonFlag(cmd)
}

func newTrashRestoreCommand(o *options) *cobra.Command {
	var as string
	cmd := &cobra.Command{
		Use:   "restore ENTRY|NAME",
		Short: "Bring a removed volume back, with its data and options",
		Example: `  glustervol trash restore web
  glustervol trash restore web.5f0c2ab1d77e4093 --as web-of-yesterday`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := o.client().Restore(cmd.Context(), args[0], as)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(o.stdout, name)
			return err
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "restore under another `NAME`")
	return cmd
}

func newTrashEmptyCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "empty [ENTRY|NAME...]",
		Short: "Purge removed volumes for good, all or those named",
		Long: `Purge removed volumes for good, all or those named. It shows how far it is; when
it is interrupted, what it has begun goes on in the background.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			progress := newPurgeProgress(o.stderr)
			err := o.client().EmptyTrash(cmd.Context(), args, progress.report)
			progress.finish()
			return err
		},
	}
}

// purgeProgress shows a purge: on a terminal a moving line, else a line an entry.
type purgeProgress struct {
	out   io.Writer
	bar   *progressbar.ProgressBar
	entry string
}

func newPurgeProgress(out io.Writer) *purgeProgress {
	p := &purgeProgress{out: out}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		// How many files there are is not known before they are gone.
		p.bar = progressbar.NewOptions(-1, progressbar.OptionSetWriter(out), progressbar.OptionShowCount(), progressbar.OptionSetItsString("files"), progressbar.OptionShowIts())
	}
	return p
}

func (p *purgeProgress) report(progress volume.Progress) {
	if p.bar != nil {
		p.bar.Describe(fmt.Sprintf("%s (%d of %d)", progress.Entry, progress.Number, progress.Total))
		_ = p.bar.Set(progress.Removed) // a bar that cannot be drawn stops nothing
		return
	}
	if progress.Entry != p.entry {
		p.entry = progress.Entry
		fmt.Fprintf(p.out, "purging %s (%d of %d)\n", progress.Entry, progress.Number, progress.Total)
	}
}

func (p *purgeProgress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish()
		fmt.Fprintln(p.out)
	}
}
