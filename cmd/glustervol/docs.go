//go:build docs

package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// extraCommands are what 'make docs' runs, and the installed program does without: the
// manual's formatter.
func extraCommands() []*cobra.Command {
	return []*cobra.Command{{
		Use:   "docs DIRECTORY",
		Short: "Write man pages and shell completions",
		Args:  args(cobra.ExactArgs(1)),
		RunE:  func(_ *cobra.Command, args []string) error { return writeDocs(args[0]) },
	}}
}

// writeDocs writes into a directory for each kind, under the names that they are installed by.
func writeDocs(dir string) error {
	for _, kind := range []string{"man8", "bash", "zsh", "fish"} {
		if err := os.MkdirAll(filepath.Join(dir, kind), 0o755); err != nil {
			return err
		}
	}
	root := newRootCommand(io.Discard, io.Discard)
	root.DisableAutoGenTag = true
	return errors.Join(
		doc.GenManTree(root, &doc.GenManHeader{Section: "8", Source: "glustervol " + version, Manual: "Docker volumes on GlusterFS"}, filepath.Join(dir, "man8")),
		root.GenBashCompletionFileV2(filepath.Join(dir, "bash/glustervol"), true),
		root.GenZshCompletionFile(filepath.Join(dir, "zsh/_glustervol")),
		root.GenFishCompletionFile(filepath.Join(dir, "fish/glustervol.fish"), true),
	)
}
