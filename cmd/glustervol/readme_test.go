package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/volume"
)

const readme = "../../README.md"

// block is a fenced block of the README.
type block struct {
	language, text string
	// skipped is the reason why the tests do not run it.
	skipped string
}

var fence = regexp.MustCompile("(?ms)(?:^<!-- not run here: ([^\n]*) -->\n)?^```(\\w+)\n(.*?)^```$")

func readmeBlocks(t *testing.T) (blocks []block) {
	t.Helper()
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, block{skipped: m[1], language: m[2], text: m[3]})
	}
	return blocks
}

// TestReadmeExamples runs the README's examples as they are written, one after
// the other, on a store gfs1,gfs2,gfs3:/gv0.
func TestReadmeExamples(t *testing.T) {
	testnode.NamedGlusterVolume(t, "gv0")
	testnode.Docker(t)
	testnode.RunDocker(t, "tag", testnode.Image, "alpine")
	startDriver(t, "gfs1,gfs2,gfs3:/gv0")
	bin := installSelf(t)
	dir := t.TempDir()
	run := 0
	for _, b := range readmeBlocks(t) {
		switch {
		case b.skipped != "": // withPlugin has a test of its own
		case b.language == "yaml":
			if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte("version: '3.7'\n"+b.text), 0o644); err != nil {
				t.Fatal(err)
			}
		case b.language == "sh":
			run++
			// Root needs no sudo, and a bare machine has none.
			cmd := exec.CommandContext(t.Context(), "bash", "-euxc", `sudo() { "$@"; }; `+b.text)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s\n%v: %s", b.text, err, out)
			}
		default:
			t.Errorf("a block in %s is neither run nor skipped with a reason", b.language)
		}
	}
	if run < 5 {
		t.Errorf("only %d examples were run; does the test find them?", run)
	}
	for name := range strings.FieldsSeq(testnode.RunDocker(t, "volume", "ls", "-q", "--filter", "driver=glustervol")) {
		testnode.Eventually(t, "removal of "+name, func() bool {
			_, err := testnode.TryDocker("volume", "rm", name)
			return err == nil
		})
	}
}

// installSelf puts the program under its name into a directory for PATH.
func installSelf(t *testing.T) (dir string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\n%s=1 exec %q \"$@\"\n", asMain, exe)
	if err := os.WriteFile(filepath.Join(dir, "glustervol"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestReadmeTables compares the README's tables with the program.
func TestReadmeTables(t *testing.T) {
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{} // the first cell's code → the whole row
	for line := range strings.Lines(string(text)) {
		if cell, _, found := strings.Cut(strings.TrimPrefix(line, "| "), " |"); found && strings.HasPrefix(line, "| `") {
			for _, code := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(cell, -1) {
				rows[strings.FieldsFunc(code[1], func(r rune) bool { return r == '=' })[0]] = line
			}
		}
	}
	for _, key := range volume.OptionKeys() {
		if rows[key] == "" {
			t.Errorf("the README has no row for option %s", key)
		}
	}
	root := newRootCommand(os.Stdout, os.Stderr)
	root.InitDefaultCompletionCmd()
	serve, _, err := root.Find([]string{"serve"})
	if err != nil {
		t.Fatal(err)
	}
	checkFlag := func(f *pflag.Flag) {
		row := rows["--"+f.Name]
		if f.Name == "help" {
			return
		}
		if row == "" {
			t.Errorf("the README has no row for --%s", f.Name)
		} else if def := strings.ToLower(f.DefValue); def != "" && !strings.Contains(row, "`"+def+"`") {
			t.Errorf("the README's default of --%s is not %s: %s", f.Name, f.DefValue, row)
		}
	}
	serve.LocalFlags().VisitAll(checkFlag)
	root.PersistentFlags().VisitAll(checkFlag)
	checkCommands(t, root, string(text))
}

// checkCommands wants every command that does something in the README's table.
func checkCommands(t *testing.T, cmd *cobra.Command, text string) {
	t.Helper()
	for _, c := range cmd.Commands() {
		if c.HasSubCommands() && c.Name() != "completion" {
			checkCommands(t, c, text)
		} else if c.Name() != "help" && !strings.Contains(text, "| `"+c.CommandPath()) {
			t.Errorf("the README has no row for %s", c.CommandPath())
		}
	}
}
