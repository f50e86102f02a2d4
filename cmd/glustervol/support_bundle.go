package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/glustervol/glustervol/cmd/glustervol/doctor"
)

func newSupportBundleCommand(o *options) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "support-bundle [FILE]",
		Short: "Collect what a bug report needs, without secrets",
		Long: `Collect what a bug report needs into a tar.gz: what 'glustervol doctor', info, node ls
and ls say, versions, units and the end of their journals, the end of the Gluster
clients' logs, this node's mounts, and the stores' volume files. FILE is '-' for
standard output; without one it is named after this node and the time.

No TLS key is in it, nor what lets a client write to the bricks, nor values of other
programs' environments. Names of servers, volumes and containers are: look into it
before you publish it.`,
		Example: `  glustervol support-bundle
  glustervol support-bundle - | tar -tz`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := os.Hostname()
			if err != nil {
				return err
			}
			name := "glustervol-support-" + host + "-" + time.Now().UTC().Format("20060102T150405Z")
			node, clean, err := o.node(config, nil)
			if err != nil {
				return err
			}
			defer clean()
			b := bundle{options: o, node: node, name: name}
			if len(args) == 1 && args[0] == "-" {
				return b.write(cmd.Context(), o.stdout)
			}
			return b.writeFile(cmd.Context(), append(args, name+".tar.gz")[0])
		},
	}
	cmd.Flags().StringVar(&config, "config", settingsFile, "the driver's configuration, a `file` that systemd takes variables from")
	return cmd
}

// bundle is a support bundle.
type bundle struct {
	*options
	node *doctor.Node
	// name is that of the directory that all is in.
	name string
}

// writeFile makes a new file, which others cannot read.
func (b *bundle) writeFile(ctx context.Context, file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(b.write(ctx, f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	fmt.Fprintln(b.stdout, file)
	return nil
}

func (b *bundle) write(ctx context.Context, w io.Writer) error {
	compressed := gzip.NewWriter(w)
	archive := tar.NewWriter(compressed)
	for _, i := range b.items(ctx) {
		data, err := i.collect(ctx)
		if err != nil {
			data = append(data, fmt.Sprintf("\nnot collected: %v\n", err)...)
		}
		if err := b.add(archive, i.name, redact(string(data))); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), compressed.Close())
}

func (b *bundle) add(archive *tar.Writer, name, text string) error {
	header := &tar.Header{Name: path.Join(b.name, name), Mode: 0o600, Size: int64(len(text)), ModTime: time.Now()}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.WriteString(archive, text)
	return err
}

// item is a file of a bundle. What cannot be collected has its error there instead.
type item struct {
	name    string
	collect func(context.Context) ([]byte, error)
}

// items are all files. The doctor comes first, since it knows what there is.
func (b *bundle) items(ctx context.Context) []item {
	findings := b.node.Examine(ctx)
	client := b.client()
	items := []item{
		{"doctor.json", asJSON(func(context.Context) (any, error) { return findings, nil })},
		{"info.json", asJSON(func(ctx context.Context) (any, error) { return client.Info(ctx) })},
		{"nodes.json", asJSON(func(ctx context.Context) (any, error) { return client.Nodes(ctx) })},
		{"volumes.json", asJSON(func(ctx context.Context) (any, error) { return client.List(ctx) })},
		{"versions.txt", b.versions},
		{"configuration.txt", b.configuration},
		{"mountinfo.txt", fromFile("/proc/self/mountinfo")},
	}
	for i, report := range b.node.Reports() {
		items = append(items, item{fmt.Sprintf("stores/%d.json", i), asJSON(func(context.Context) (any, error) { return report, nil })})
		if len(report.Graph) > 0 {
			items = append(items, item{fmt.Sprintf("stores/%d.vol", i), func(context.Context) ([]byte, error) { return []byte(report.Graph.String()), nil }})
		}
	}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		for _, unit := range []string{"glustervol.service", "glustervol.socket", "docker.service", "glusterd.service"} {
			items = append(items,
				item{"units/" + unit + ".txt", fromCommand("systemctl", "status", "--no-pager", "--full", "--lines=0", unit)},
				item{"units/" + unit + ".journal.txt", fromCommand("journalctl", "--no-pager", "--quiet", "--lines=2000", "--unit="+unit)})
		}
	}
	return append(items, b.logs()...)
}

// configuration are the driver's variables; others may be there, which are nobody's
// business.
func (b *bundle) configuration(context.Context) ([]byte, error) {
	text, err := os.ReadFile(b.node.Config)
	var own bytes.Buffer
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(bytes.TrimSpace(line), []byte("GLUSTERVOL_")) {
			own.Write(line)
		}
	}
	return own.Bytes(), err
}

// logs are the ends of the Gluster clients' logs, and of those before.
func (b *bundle) logs() (items []item) {
	for _, pattern := range []string{"*.log", "*.log.1"} {
		files, err := filepath.Glob(filepath.Join(b.node.LogDir, pattern))
		if err != nil {
			continue // the pattern is good, but for odd characters in the directory
		}
		for _, file := range files {
			items = append(items, item{"logs/" + filepath.Base(file), fromFile(file)})
		}
	}
	return items
}

func (b *bundle) versions(ctx context.Context) ([]byte, error) {
	out := fmt.Appendf(nil, "glustervol %s (%s)\n", version, runtime.Version())
	release, err := os.ReadFile("/etc/os-release")
	out = append(out, release...)
	for _, command := range [][]string{
		{"uname", "-srvm"}, {cmp.Or(b.node.Glusterfs, "glusterfs"), "--version"}, {"docker", "version"}, {"docker", "plugin", "ls"}, {"systemctl", "--version"},
	} {
		text, commandErr := fromCommand(command...)(ctx)
		out = fmt.Appendf(out, "\n$ %s\n%s", strings.Join(command, " "), text)
		if commandErr != nil {
			out = fmt.Appendf(out, "%v\n", commandErr)
		}
	}
	return out, err
}

func asJSON(value func(context.Context) (any, error)) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, itemTime)
		defer cancel()
		v, err := value(ctx)
		if err != nil {
			return nil, err
		}
		data, err := json.MarshalIndent(v, "", "  ")
		return append(data, '\n'), err
	}
}

const (
	// itemTime bounds one thing to be collected.
	itemTime = 10 * time.Second
	// tailSize is how much of a file's end is collected.
	tailSize = 512 << 10
)

// fromFile is the end of a file, from the start of a line on.
func fromFile(file string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		data, err := tail(f)
		return data, err
	}
}

func tail(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	start := max(info.Size()-tailSize, 0)
	if _, err := f.Seek(start, io.SeekStart); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, 2*tailSize)) // /proc tells no sizes
	if start > 0 {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	return data, err
}

func fromCommand(command ...string) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, itemTime)
		defer cancel()
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) && len(out) > 0 { // 'systemctl status' tells by it that a unit is stopped
			return fmt.Appendf(out, "(%v)\n", err), nil
		}
		return out, err
	}
}
