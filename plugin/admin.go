package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"time"

	"github.com/glustervol/glustervol/volume"
)

// AdminManager is what the command line asks for; volume.Manager documents the
// methods.
type AdminManager interface {
	Manager
	UnmountAll(ctx context.Context, name, id string) error
	Trash(ctx context.Context) ([]volume.Trashed, error)
	Restore(ctx context.Context, which, newName string) (string, error)
	EmptyTrash(ctx context.Context, which []string, report func(volume.Progress)) error
	Containers(name string) []volume.ContainerRef
	Nodes(ctx context.Context) ([]volume.NodeInfo, error)
	Reports(ctx context.Context) []volume.StoreReport
	Forget(ctx context.Context, node string) error
}

// Admin serves the command line: JSON over HTTP on a socket that is root's.
type Admin struct {
	manager AdminManager
	// listContainers is NewAdmin's.
	listContainers func(context.Context) error
	release        func(ctx context.Context, name string) error
	info           func() Info
	log            *slog.Logger
	server         *http.Server
}

// NewAdmin returns a handler of the admin API.
// listContainers brings what the manager knows of this node's containers up to date,
// and release has dockerd forget a volume.
func NewAdmin(manager AdminManager, info func() Info, listContainers func(context.Context) error,
	release func(ctx context.Context, name string) error, log *slog.Logger,
) *Admin {
	a := &Admin{manager: manager, info: info, listContainers: listContainers, release: release, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/info", a.answer(a.getInfo))
	mux.HandleFunc("GET /v1/volumes", a.answer(a.list))
	mux.HandleFunc("POST /v1/volumes", a.answer(a.create))
	mux.HandleFunc("GET /v1/volumes/{name}", a.answer(a.inspect))
	mux.HandleFunc("DELETE /v1/volumes/{name}", a.answer(a.remove))
	mux.HandleFunc("POST /v1/volumes/{name}/mount", a.answer(a.mount))
	mux.HandleFunc("POST /v1/volumes/{name}/unmount", a.answer(a.unmount))
	mux.HandleFunc("POST /v1/release", a.answer(a.releaseVolumes))
	mux.HandleFunc("GET /v1/trash", a.answer(a.trash))
	mux.HandleFunc("POST /v1/trash/restore", a.answer(a.restore))
	mux.HandleFunc("POST /v1/trash/empty", a.emptyTrash)
	mux.HandleFunc("GET /v1/nodes", a.answer(a.nodes))
	mux.HandleFunc("GET /v1/reports", a.answer(a.reports))
	mux.HandleFunc("DELETE /v1/nodes/{name}", a.answer(a.forget))
	handleProfiles(mux)
	a.server = newServer(mux, log)
	return a
}

// handleProfiles serves what Go knows of the running driver, to whoever looks for a
// leak or a call that hangs: goroutines, memory, and where the time goes. It is for
// this socket alone, since the plugin socket may be a group's.
func handleProfiles(mux *http.ServeMux) {
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
}

// Serve answers requests on l until Close.
func (a *Admin) Serve(l net.Listener) error {
	if err := a.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close ends the requests under way and stops serving.
func (a *Admin) Close() error { return a.server.Close() }

// answer has a request answered with JSON, within the deadline of a Mount.
func (a *Admin) answer(fn func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeoutCause(r.Context(), longDeadline, errDeadline)
		defer cancel()
		value, err := fn(r.WithContext(ctx))
		code := http.StatusOK
		if err != nil {
			value, code = failure{Error: err.Error()}, statusCode(err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		if err := json.NewEncoder(w).Encode(value); err != nil {
			a.log.Debug("the command line has left", "err", err)
		}
	}
}

// failure is the answer to a request that failed.
type failure struct {
	Error string `json:"error"`
}

func statusCode(err error) int {
	var inUse *volume.InUseError
	switch {
	case errors.Is(err, volume.ErrNotFound) || errors.Is(err, volume.ErrNotInTrash):
		return http.StatusNotFound
	case errors.As(err, &inUse):
		return http.StatusConflict
	case errors.Is(err, volume.ErrUnreachable):
		return http.StatusServiceUnavailable
	default:
		return http.StatusBadRequest
	}
}

func (a *Admin) getInfo(*http.Request) (any, error) { return a.info(), nil }

func (a *Admin) list(*http.Request) (any, error) {
	volumes := []VolumeInfo{}
	for v := range a.manager.List() {
		volumes = append(volumes, newVolumeInfo(v))
	}
	return volumes, nil
}

func (a *Admin) inspect(r *http.Request) (any, error) {
	v, err := a.manager.Get(r.Context(), r.PathValue("name"))
	return newVolumeInfo(v), err
}

// createRequest asks for a volume.
type createRequest struct {
	Name    string            `json:"name"`
	Options map[string]string `json:"options"`
}

func (a *Admin) create(r *http.Request) (any, error) {
	request, err := decode[createRequest](r.Body)
	if err != nil {
		return nil, err
	}
	if err := a.manager.Create(r.Context(), request.Name, request.Options); err != nil {
		return nil, err
	}
	v, err := a.manager.Get(r.Context(), request.Name)
	return newVolumeInfo(v), err
}

func (a *Admin) remove(r *http.Request) (any, error) {
	name, query := r.PathValue("name"), r.URL.Query()
	if users := a.stoppedUsers(r.Context(), name); len(users) > 0 {
		return nil, fmt.Errorf("remove volume %s: %w", name, &volume.InUseError{Volume: name, Users: users})
	}
	return struct{}{}, a.manager.Remove(r.Context(), name, query.Get("store"), query.Has("keep-data"))
}

// stoppedUsers are the containers of this node that use a volume and do not run;
// one that runs is counted by its mount. dockerd itself refuses to remove what its
// containers use; the command line does not ask it.
func (a *Admin) stoppedUsers(ctx context.Context, name string) (users []string) {
	if err := a.listContainers(ctx); err != nil {
		a.log.Warn("containers cannot be listed; those that were known last count", "err", err)
	}
	for _, c := range a.manager.Containers(name) {
		if c.State != "running" {
			users = append(users, c.String())
		}
	}
	return users
}

// mountAnswer says where a volume is mounted.
type mountAnswer struct {
	Mountpoint string `json:"mountpoint"`
}

// mount counts a person once, however often they ask.
func (a *Admin) mount(r *http.Request) (any, error) {
	name := r.PathValue("name")
	v, err := a.manager.Get(r.Context(), name)
	if err != nil {
		return nil, err
	}
	path, err := a.manager.Mount(r.Context(), name, volume.ManualUser)
	if err == nil && slices.Contains(v.Users, volume.ManualUser) {
		err = a.manager.Unmount(r.Context(), name, volume.ManualUser)
	}
	return mountAnswer{Mountpoint: path}, err
}

func (a *Admin) unmount(r *http.Request) (any, error) {
	name := r.PathValue("name")
	if _, err := a.manager.Get(r.Context(), name); err != nil {
		return nil, err
	}
	return struct{}{}, a.manager.UnmountAll(r.Context(), name, volume.ManualUser)
}

// trashAnswer has what could be read, and what could not.
type trashAnswer struct {
	Entries []volume.Trashed `json:"entries"`
	Error   string           `json:"error,omitempty"`
}

func (a *Admin) trash(r *http.Request) (any, error) {
	list, err := a.manager.Trash(r.Context())
	if list == nil && err != nil {
		return nil, err
	}
	answer := trashAnswer{Entries: append([]volume.Trashed{}, list...)}
	if err != nil {
		answer.Error = err.Error()
	}
	return answer, nil
}

// restoreRequest asks for an entry of the trash, by its name or its volume's.
type restoreRequest struct {
	Which string `json:"which"`
	As    string `json:"as"`
}

// restoreAnswer names the volume that was restored.
type restoreAnswer struct {
	Name string `json:"name"`
}

func (a *Admin) restore(r *http.Request) (any, error) {
	request, err := decode[restoreRequest](r.Body)
	if err != nil {
		return nil, err
	}
	name, err := a.manager.Restore(r.Context(), request.Which, request.As)
	return restoreAnswer{Name: name}, err
}

// nodesAnswer lists nodes. Error tells of stores that could not be asked.
type nodesAnswer struct {
	Nodes []volume.NodeInfo `json:"nodes"`
	Error string            `json:"error,omitempty"`
}

func (a *Admin) nodes(r *http.Request) (any, error) {
	nodes, err := a.manager.Nodes(r.Context())
	answer := nodesAnswer{Nodes: nodes}
	if err != nil {
		answer.Error = err.Error()
	}
	return answer, nil
}

func (a *Admin) reports(r *http.Request) (any, error) { return a.manager.Reports(r.Context()), nil }

func (a *Admin) forget(r *http.Request) (any, error) {
	return struct{}{}, a.manager.Forget(r.Context(), r.PathValue("name"))
}

// emptyRequest asks for a purge of some entries, or of all.
type emptyRequest struct {
	Which []string `json:"which"`
}

// emptyEvent is a line of the answer to an emptyRequest; the last has Done, and
// Error if something is left.
type emptyEvent struct {
	volume.Progress
	Done  bool   `json:"done,omitempty"`
	Error string `json:"error,omitempty"`
}

// reportPause is how often a purge tells how far it is.
const reportPause = 100 * time.Millisecond

// emptyTrash purges as long as the command line stays: it may take hours.
func (a *Admin) emptyTrash(w http.ResponseWriter, r *http.Request) {
	request, err := decode[emptyRequest](r.Body)
	events := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	send := func(e emptyEvent) {
		// A person who left cancels the context, which ends the purge.
		_ = errors.Join(events.Encode(e), flush.Flush())
	}
	if err == nil {
		var last time.Time
		entry := ""
		err = a.manager.EmptyTrash(r.Context(), request.Which, func(p volume.Progress) {
			if p.Entry != entry || time.Since(last) >= reportPause {
				entry, last = p.Entry, time.Now()
				send(emptyEvent{Progress: p})
			}
		})
	}
	end := emptyEvent{Done: true}
	if err != nil {
		end.Error = err.Error()
	}
	send(end)
}
