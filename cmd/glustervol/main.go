// Command glustervol is a Docker volume driver that mounts GlusterFS itself, and
// the command line to it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "devel"

// Exit codes.
const (
	exitFailed = 1 // the request failed
	exitUsage  = 2 // the command line is wrong
	exitWarned = 3 // doctor has warnings, and nothing worse
)

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitError ends the program with a code, and says nothing: all is said.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without a process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand(stdout, stderr)
	root.AddCommand(extraCommands()...)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var usage usageError
	var exit exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "glustervol: %v\n", err)
		return exitUsage
	default:
		fmt.Fprintf(stderr, "glustervol: %v\n", err)
		return exitFailed
	}
}
