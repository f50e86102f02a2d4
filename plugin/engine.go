package plugin

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/client"

	"github.com/glustervol/glustervol/volume"
)

// Engine watches which volumes the containers of this node use, running or not:
// dockerd tells a volume driver of mounts alone. It asks dockerd on its own, never
// while dockerd waits for an answer of the driver's.
type Engine struct {
	client *client.Client
	form   Form
	// tell is given all containers that use volumes of the driver, by volume.
	tell func(map[string][]volume.ContainerRef)
	log  *slog.Logger

	mu    sync.Mutex
	state string
}

// containerEvents are the events behind which containers, or what is told of them,
// are others.
var containerEvents = []string{"create", "destroy", "start", "die", "pause", "unpause", "rename"}

const (
	// enginePause is how long to wait until dockerd is asked again that did not
	// answer.
	enginePause = time.Second
	// engineTime bounds a list of containers.
	engineTime = 30 * time.Second
	// listPause is how often the containers are listed without an event, and
	// againPause how soon behind one: dockerd lists a copy of its containers, which
	// may not have what the event is about yet.
	listPause  = 30 * time.Second
	againPause = time.Second
	// settleTime is how long to collect events until the containers are listed.
	settleTime = 50 * time.Millisecond
)

// NewEngine returns a watcher of the dockerd that serves a socket. It asks for
// nothing before Watch.
func NewEngine(socket string, form Form, tell func(map[string][]volume.ContainerRef), log *slog.Logger) (*Engine, error) {
	c, err := client.New(client.WithHost("unix://" + socket))
	if err != nil {
		return nil, err
	}
	return &Engine{client: c, form: form, tell: tell, log: log, state: "not asked yet"}, nil
}

// State says in words whether the containers are known.
func (e *Engine) State() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state
}

func (e *Engine) setState(state string) (changed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	changed = e.state != state
	e.state = state
	return changed
}

// Watch tells of the containers until ctx is done. While dockerd is away, what it
// has told last holds.
func (e *Engine) Watch(ctx context.Context) {
	for ctx.Err() == nil {
		err := e.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if e.setState(fmt.Sprintf("NOT reached: %v", err)) {
			e.log.Warn("dockerd cannot be asked for its containers; other nodes are told what was known last", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(enginePause):
		}
	}
}

// follow lists the containers, and again behind each event, until the connection
// is lost. The events are asked for before the list, so that none is missed.
func (e *Engine) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := e.client.Events(ctx, client.EventsListOptions{
		Filters: make(client.Filters).Add("type", "container").Add("event", containerEvents...),
	})
	pause := listPause
	for {
		if err := e.List(ctx); err != nil {
			return err
		}
		if e.setState("its containers are known") {
			e.log.Info("containers of this node are known")
		}
		select {
		case <-events.Messages:
			pause = againPause
		case err := <-events.Err:
			return err
		case <-time.After(pause):
			pause = listPause
			continue
		}
		for settled := time.After(settleTime); settled != nil; {
			select {
			case <-events.Messages:
			case err := <-events.Err:
				return err
			case <-settled:
				settled = nil
			}
		}
	}
}

// List tells of the containers that are there.
func (e *Engine) List(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, engineTime)
	defer cancel()
	driver, err := e.driver(ctx)
	if err != nil {
		return err
	}
	containers, err := e.client.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return err
	}
	uses := map[string][]volume.ContainerRef{}
	for _, c := range containers.Items {
		ref := volume.ContainerRef{ID: c.ID, State: string(c.State)}
		if len(c.Names) > 0 {
			ref.Name = strings.TrimPrefix(c.Names[0], "/")
		}
		for _, m := range c.Mounts {
			ref.Mounts = append(ref.Mounts, path.Clean(m.Destination))
		}
		told := map[string]bool{} // a container may have a volume twice
		for _, m := range c.Mounts {
			if m.Type == "volume" && driverName(m.Driver) == driver && !told[m.Name] {
				told[m.Name] = true
				uses[m.Name] = append(uses[m.Name], ref)
			}
		}
	}
	e.tell(uses)
	return nil
}

// driver is the name that dockerd knows the volume driver by.
func (e *Engine) driver(ctx context.Context) (string, error) {
	if e.form.PluginID == "" {
		return driverName(e.form.Driver), nil
	}
	plugin, err := e.client.PluginInspect(ctx, e.form.PluginID, client.PluginInspectOptions{})
	if err != nil {
		return "", err
	}
	return driverName(plugin.Plugin.Name), nil
}

// driverName is the name of a driver as it was installed. dockerd adds the tag to that
// of a managed plugin, and keeps the name that a volume was used by first.
func driverName(name string) string { return strings.TrimSuffix(name, ":latest") }
