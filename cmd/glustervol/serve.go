package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/gofrs/flock"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/mount"
	"github.com/glustervol/glustervol/plugin"
	"github.com/glustervol/glustervol/volume"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	pluginSocket string
	adminSocket  string
	dockerSocket string
	group        string
	runDir       string
	stateDir     string
	logDir       string
	logLevel     slog.Level
	logFormat    string
	control      string
	linger       time.Duration
	bootWait     time.Duration
	retention    time.Duration
	glusterfs    string
	options      string
	// clientOptions are options, parsed.
	clientOptions mount.Options
	name          string
	managed       bool
	stores        []gluster.Address
}

// storeVariable names the stores when serve is called without arguments.
const storeVariable = "GLUSTERVOL_STORE"

func newServeCommand(o *options) *cobra.Command {
	var s serveOptions
	cmd := &cobra.Command{
		Use:   "serve [STORE...]",
		Short: "Run the driver",
		Long: `Run the driver, for dockerd and for the other commands. A STORE is written as
mount.glusterfs writes it, SERVER[,SERVER...]:/VOLUME[/DIRECTORY]; the first is
the default. Without arguments the stores come from $` + storeVariable + `,
separated by spaces. Each flag may also be given as a variable: $GLUSTERVOL_LINGER
is --linger, and so on; the command line has the last word.

The driver may be stopped and started again under running containers: the
Gluster clients that they use stay, and the next driver takes them over.`,
		Example: `  glustervol serve gfs1,gfs2,gfs3:/gv0`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = strings.Fields(os.Getenv(storeVariable))
			}
			err := errors.Join(fromEnvironment(cmd.Flags(), os.Getenv), s.applyName(cmd.Flags()))
			if err == nil {
				err = s.parse(args)
			}
			if err != nil {
				err = usageError{err}
			} else {
				s.adminSocket = o.socket
				err = serve(cmd.Context(), s, s.logger(o))
			}
			if err != nil && s.managed && !errors.Is(err, errSocket) {
				return awaitEnd(cmd.Context(), err, o.stderr)
			}
			return err
		},
	}
	s.addFlags(cmd.Flags())
	return cmd
}

// addFlags has flags set s.
func (s *serveOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&s.pluginSocket, "plugin-socket", "/run/docker/plugins/glustervol.sock", "where dockerd finds the driver; its name is the driver's `socket`")
	f.StringVar(&s.dockerSocket, "docker-socket", "/run/docker.sock", "dockerd's API `socket`, to tell other nodes of containers that are stopped; empty for mounts only")
	f.StringVar(&s.group, "group", "", "a `group` that may use the plugin socket besides root")
	f.StringVar(&s.runDir, "run-dir", "/run/glustervol", "`directory` for mounts and what is lost at a reboot")
	f.StringVar(&s.stateDir, "state-dir", "/var/lib/glustervol", "`directory` for what is kept over a reboot")
	f.StringVar(&s.logDir, "log-dir", "/var/log/glustervol", "`directory` for the logs of the Gluster clients")
	f.TextVar(&s.logLevel, "log-level", slog.LevelInfo, "log from this `level` on: debug, info, warn or error")
	f.StringVar(&s.logFormat, "log-format", "text", "log as `text` (key=value) or json")
	f.StringVar(&s.control, "control", volume.ControlAuto, "reach the stores for all but the data over `gfapi`, which is libgfapi, or fuse, a mount; auto: gfapi if this node has it")
	f.DurationVar(&s.linger, "linger", 10*time.Second, "how `long` to keep a Gluster client that nobody uses")
	f.DurationVar(&s.bootWait, "boot-wait", 10*time.Minute, "how `long` after the machine's boot containers wait for a store that is not up yet")
	f.DurationVar(&s.retention, "trash-retention", 24*time.Hour, "how `long` a removed volume can be restored before it is purged; 0 for ever")
	f.StringVar(&s.glusterfs, "glusterfs", "glusterfs", "the Gluster client `program`")
	f.StringVar(&s.options, "client-options", "", "`options` of the Gluster clients of volumes that have none of their own")
	f.StringVar(&s.name, "name", defaultName, "`name` of the driver, in the default paths above: a second driver of a node needs another one")
	f.BoolVar(&s.managed, "managed", false, "run in the container of a managed plugin, as hack/plugin/config.json says")
}

// parse checks the flags and reads the stores.
func (s *serveOptions) parse(stores []string) error {
	if len(stores) == 0 {
		return fmt.Errorf("no store is given; name one, such as 'glustervol serve gfs1,gfs2,gfs3:/gv0', or set %s", storeVariable)
	}
	for _, text := range stores {
		address, err := gluster.ParseAddress(text)
		if err != nil {
			return err
		}
		s.stores = append(s.stores, address)
	}
	if s.logFormat != "text" && s.logFormat != "json" {
		return fmt.Errorf("--log-format is text or json, not %q", s.logFormat)
	}
	if kinds := []string{volume.ControlAuto, volume.ControlAPI, volume.ControlFUSE}; !slices.Contains(kinds, s.control) {
		return fmt.Errorf("--control is one of %s, not %q", strings.Join(kinds, ", "), s.control)
	}
	if s.linger < 0 || s.bootWait < 0 || s.retention < 0 {
		return fmt.Errorf("--linger, --boot-wait and --trash-retention are times, such as 10s, not %s, %s and %s", s.linger, s.bootWait, s.retention)
	}
	var err error
	if s.clientOptions, err = mount.ParseOptions(s.options); err != nil {
		return fmt.Errorf("--client-options: %w", err)
	}
	for flag, dir := range map[string]string{"run-dir": s.runDir, "state-dir": s.stateDir, "log-dir": s.logDir} {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("--%s is an absolute path, not %q", flag, dir)
		}
	}
	return nil
}

func (s *serveOptions) logger(o *options) *slog.Logger {
	handler := &slog.HandlerOptions{Level: s.logLevel}
	out := o.stderr
	if s.managed {
		out = o.stdout // dockerd takes all that comes from the other for errors
	}
	if s.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(out, handler))
	}
	return slog.New(slog.NewTextHandler(out, handler))
}

// errSocket is in the chain of the error of a driver that has served, and cannot go on.
var errSocket = errors.New("the driver cannot go on")

// awaitEnd tells why a managed plugin does not serve, and waits until dockerd ends it. One
// that ends by itself is started over and over, and dockerd (20.10), when it gives up,
// may leave a container behind because of which no further start succeeds.
func awaitEnd(ctx context.Context, err error, stderr io.Writer) error {
	fmt.Fprintln(stderr, "glustervol:", err)
	<-ctx.Done()
	return nil
}

// spareHeap is how much memory may lie fallow until the garbage is collected, in percent of what is
// used: Go's own 100 suit who works all the time.
const spareHeap = 30

// saveMemory has the driver keep little memory: on its node, that is for containers. It waits
// most of the time. Who sets GOGC knows better.
func saveMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(spareHeap)
	}
}

// serve runs the driver until ctx is done.
func serve(ctx context.Context, s serveOptions, log *slog.Logger) error {
	if os.Getuid() != 0 {
		return errors.New("the driver mounts file systems, which takes root")
	}
	unix.Umask(0o022)
	saveMemory()
	form, unlock, err := s.enter()
	if err != nil {
		return err
	}
	defer unlock()

	// The sockets first: dockerd waits for them when it starts, and answers
	// come as soon as what is below is ready.
	dockerListener, err := s.listenDocker()
	if err != nil {
		return err
	}
	adminListener, err := plugin.Listen(s.adminSocket, -1)
	if err != nil {
		return errors.Join(err, dockerListener.Close())
	}
	clients := mount.NewClients(s.clientsConfig(log))
	parts, err := s.newParts(clients, form, log)
	if err != nil {
		return errors.Join(err, dockerListener.Close(), adminListener.Close())
	}
	manager := parts.manager
	docker := plugin.NewDocker(manager, form, log)
	admin := plugin.NewAdmin(manager, func() plugin.Info {
		return plugin.Info{Version: version, Node: parts.node, PID: os.Getpid(), Socket: form.Socket, Docker: parts.engine.State(), RunDir: s.runDir, StateDir: s.stateDir, LogDir: s.logDir, Stores: manager.Stores(), Clients: clients.List()}
	}, parts.engine.List, func(ctx context.Context, name string) error {
		return docker.Release(ctx, name, parts.engine.Inspect)
	}, log)
	failed := make(chan error, 3)
	go func() { failed <- docker.Serve(dockerListener) }()
	go func() { failed <- admin.Serve(adminListener) }()
	background, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	running.Go(func() { manager.Run(background) })
	go rotateLogs(background, clients, parts.control)
	go parts.engine.Watch(background)
	go func() { failed <- s.awaitHidden(background) }()
	log.Info("driver serves", "version", version, "node", parts.node.ID, "control", parts.control.Kind, "socket", form.Socket, "stores", storeNames(s.stores))
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("systemd cannot be told that the driver is ready", "err", err)
	}

	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("%w: %w", errSocket, err)
	}
	stop()
	err = errors.Join(err, dockerListener.Close(), admin.Close(), ignoreClosed(adminListener.Close()))
	running.Wait()
	return errors.Join(err, shutDown(docker, manager, clients, log))
}

// enter makes the run directory this driver's alone, and tells how dockerd has it.
func (s *serveOptions) enter() (form plugin.Form, unlock func(), err error) {
	if s.managed {
		if err := plugin.EnterHost(s.runDir, s.stateDir); err != nil {
			return plugin.Form{}, nil, err
		}
	}
	if s.runDir, unlock, err = lockRunDir(s.runDir); err != nil {
		return plugin.Form{}, nil, err
	}
	if form, err = s.form(); err != nil {
		unlock()
	}
	return form, unlock, err
}

// shutDownTime bounds a stop; systemd's own limit is 90 s.
const shutDownTime = 30 * time.Second

// shutDown lets requests under way end, and the clients that nobody uses.
func shutDown(docker *plugin.Docker, manager *volume.Manager, clients *mount.Clients, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutDownTime)
	defer cancel()
	docker.Wait(ctx)
	err := errors.Join(manager.Close(), clients.Close(ctx))
	for _, c := range clients.List() {
		log.Info("client left for the next driver", "client", c.Key, "pid", c.PID, "users", c.Users)
	}
	log.Info("driver stopped")
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// lockPatience is how long a driver that was killed may hold its lock: a child that it
// was starting has a copy of it until that runs its program.
const lockPatience = 2 * time.Second

// lockRunDir makes the run directory, and it this driver's alone. It returns
// its path without symlinks, as the kernel's mount table has it.
func lockRunDir(dir string) (path string, unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", nil, err
	}
	if path, err = filepath.EvalSymlinks(dir); err != nil {
		return "", nil, err
	}
	lock := flock.New(filepath.Join(path, "lock"))
	ctx, cancel := context.WithTimeout(context.Background(), lockPatience)
	defer cancel()
	locked, err := lock.TryLockContext(ctx, 10*time.Millisecond)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return "", nil, err
	}
	if !locked {
		return "", nil, fmt.Errorf("another driver uses %s; stop it first, or give this one another --name", dir)
	}
	return path, func() { _ = lock.Unlock() }, nil
}

// listenDocker takes the plugin socket from systemd, or opens it.
func (s *serveOptions) listenDocker() (net.Listener, error) {
	given, err := activation.Listeners()
	if err != nil {
		return nil, err
	}
	if len(given) == 1 && given[0] != nil {
		return given[0], nil
	}
	if len(given) > 1 {
		return nil, fmt.Errorf("systemd hands over %d sockets; the driver takes one", len(given))
	}
	gid := -1
	if s.group != "" {
		if gid, err = groupID(s.group); err != nil {
			return nil, err
		}
	}
	return plugin.Listen(s.pluginSocket, gid)
}

func groupID(name string) (int, error) {
	group, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("--group: %w", err)
	}
	return strconv.Atoi(group.Gid)
}

// parts are what the driver is put together of, below its sockets.
type parts struct {
	node    volume.Node
	control volume.Control
	manager *volume.Manager
	engine  watcher
}

// newParts adopts the clients of an earlier driver and goes on with its volumes.
func (s *serveOptions) newParts(clients *mount.Clients, form plugin.Form, log *slog.Logger) (p parts, err error) {
	if err := os.MkdirAll(s.stateDir, 0o700); err != nil {
		return parts{}, err
	}
	if p.node, err = volume.ThisNode(s.stateDir, log); err != nil {
		return parts{}, err
	}
	if p.control, err = volume.NewControl(s.control, clients, s.logDir, log); err != nil {
		return parts{}, fmt.Errorf("--control: %w", err)
	}
	if err := clients.Adopt(); err != nil {
		log.Error("client cannot be adopted", "err", err)
	}
	p.manager, err = volume.New(volume.Config{
		Stores: s.stores, Node: p.node, RunDir: s.runDir, StateDir: s.stateDir,
		BootWait: s.bootWait, TrashRetention: s.retention, AwaitContainers: s.dockerSocket != "", ClientOptions: s.clientOptions, Control: p.control, Clients: clients, Log: log,
	})
	clients.EndIdle()
	if err == nil {
		p.engine, err = s.newEngine(p.manager, form, log)
	}
	return p, err
}

// awaitHidden returns when dockerd does not see any more what a managed plugin mounts.
// Then it ends, and dockerd, which starts it again, sees it anew; containers notice nothing.
func (s *serveOptions) awaitHidden(ctx context.Context) error {
	if !s.managed {
		<-ctx.Done()
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
		if shown, err := plugin.Shown(); err == nil && !shown {
			return errors.New("dockerd does not see any more what is mounted here; it has to start the plugin again")
		}
	}
}

// form is how dockerd has the driver.
func (s *serveOptions) form() (plugin.Form, error) {
	if !s.managed {
		return plugin.Legacy(s.pluginSocket), nil
	}
	return plugin.Managed(s.clientsDir(), func() bool { return volume.SinceBoot() < s.bootWait })
}

func (s *serveOptions) clientsDir() string { return filepath.Join(s.runDir, "clients") }

func (s *serveOptions) clientsConfig(log *slog.Logger) mount.Config {
	config := mount.Config{RunDir: s.clientsDir(), LogDir: s.logDir, Binary: s.glusterfs, Linger: s.linger, Log: log}
	if s.managed {
		config.ShowDir = plugin.ManagedMounts
		config.ControlGroups = filepath.Join(plugin.ManagedHost, "sys/fs/cgroup")
	}
	return config
}

// watcher is a *plugin.Engine, or noEngine.
type watcher interface {
	Watch(ctx context.Context)
	List(ctx context.Context) error
	State() string
	Inspect(ctx context.Context, volume string) (found bool, err error)
}

// noEngine stands for a dockerd that is not asked.
type noEngine struct{}

func (noEngine) Watch(context.Context) {}

func (noEngine) List(context.Context) error { return nil }

func (noEngine) Inspect(context.Context, string) (bool, error) {
	return false, errors.New("dockerd is not asked for anything (--docker-socket is empty)")
}

func (noEngine) State() string {
	return "not asked for containers (--docker-socket is empty): other nodes are told of mounts only"
}

// newEngine watches dockerd's containers.
func (s *serveOptions) newEngine(manager *volume.Manager, form plugin.Form, log *slog.Logger) (watcher, error) {
	if s.dockerSocket == "" {
		return noEngine{}, nil
	}
	return plugin.NewEngine(s.dockerSocket, form, manager.SetContainers, log)
}

// rotatePause is how often the sizes of the client logs are looked at.
const rotatePause = time.Minute

func rotateLogs(ctx context.Context, clients *mount.Clients, control volume.Control) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(rotatePause):
			clients.RotateLogs()
			control.RotateLogs()
		}
	}
}

func storeNames(stores []gluster.Address) string {
	names := make([]string, 0, len(stores))
	for _, s := range stores {
		names = append(names, s.String())
	}
	return strings.Join(names, " ")
}
