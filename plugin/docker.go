package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/docker/go-plugins-helpers/sdk"
	api "github.com/docker/go-plugins-helpers/volume"

	"github.com/glustervol/glustervol/volume"
)

// Manager is what Docker asks for; volume.Manager documents the methods.
type Manager interface {
	Create(ctx context.Context, name string, options map[string]string) error
	Mount(ctx context.Context, name, id string) (path string, err error)
	Unmount(ctx context.Context, name, id string) error
	Remove(ctx context.Context, name, storeName string, keepData bool) error
	Get(ctx context.Context, name string) (volume.Volume, error)
	List() iter.Seq[volume.Volume]
}

// errDeadline is the cause of an end by deadline, as a user reads it.
var errDeadline = errors.New("Docker waits no longer")

// Docker serves dockerd.
type Docker struct {
	manager Manager
	form    Form
	// released are volumes that dockerd is to forget.
	released sync.Map
	log      *slog.Logger
	mux      *http.ServeMux
	server   *http.Server
}

// NewDocker returns a handler of the volume plugin protocol, version 1
// (docs.docker.com/engine/extend/plugins_volume).
//
// The Driver interface of go-plugins-helpers is not used, since it passes no
// context, and since its handlers answer a request that arrives without a body,
// which dockerd's retries cause, in a way that makes dockerd forget the volume;
// nor is its server, which cannot be stopped.
func NewDocker(manager Manager, form Form, log *slog.Logger) *Docker {
	mux := http.NewServeMux()
	d := &Docker{manager: manager, form: form, log: log, mux: mux, server: newServer(mux, log)}
	mux.HandleFunc("/Plugin.Activate", func(w http.ResponseWriter, _ *http.Request) {
		sdk.EncodeResponse(w, map[string][]string{"Implements": {"VolumeDriver"}}, false)
	})
	handle(d, "Capabilities", form.Short, d.capabilities)
	handle(d, "Create", form.Long, d.create)
	handle(d, "Get", form.Short, d.get)
	handle(d, "List", form.Short, d.list)
	handle(d, "Mount", form.Long, d.mount)
	handle(d, "Path", form.Short, d.path)
	handle(d, "Remove", form.Short, d.remove)
	handle(d, "Unmount", form.Short, d.unmount)
	return d
}

// newServer is a server of one of the driver's sockets.
func newServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{Handler: handler, ReadHeaderTimeout: deadline, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError)}
}

// Serve answers requests on l until that is closed.
func (d *Docker) Serve(l net.Listener) error {
	return d.server.Serve(l)
}

// Wait takes no more requests, also on the connections that dockerd keeps open,
// and waits until none is under way, or ctx is done.
func (d *Docker) Wait(ctx context.Context) {
	if err := d.server.Shutdown(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
		d.log.Warn("requests are left without an answer", "err", err)
		_ = d.server.Close() // nothing is left to be done for them
	}
}

// errUncertain is in the chain of an error that must not be taken for an
// answer. dockerd takes an error of Get for "there is no such volume" and
// forgets the volume's labels and options; only a connection that breaks leaves
// them alone.
var errUncertain = errors.New("no answer is better than this one")

// handle answers calls of one method of the protocol.
func handle[Request, Response any](d *Docker, method string, deadline func() time.Duration, answer func(context.Context, Request) (Response, error)) {
	d.mux.HandleFunc("/VolumeDriver."+method, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeoutCause(r.Context(), deadline(), errDeadline)
		defer cancel()
		start := time.Now()
		request, err := decode[Request](r.Body)
		var response Response
		if err == nil {
			response, err = answer(ctx, request)
		}
		d.log.Debug("request", "method", method, "request", request, "took", time.Since(start), "err", err)
		switch {
		case errors.Is(err, errUncertain):
			d.log.Warn("request cannot be answered", "method", method, "request", request, "err", err)
			panic(http.ErrAbortHandler) // net/http's way to break the connection
		case err != nil:
			if !errors.Is(err, volume.ErrNotFound) { // Docker asks for every name that is new to it
				d.log.Warn("request failed", "method", method, "request", request, "err", err)
			}
			sdk.EncodeResponse(w, api.NewErrorResponse(err.Error()), true)
		default:
			sdk.EncodeResponse(w, response, false)
		}
	})
}

// maxRequest is the largest request in bytes; dockerd's have a few hundred.
const maxRequest = 1 << 20

// decode reads a request. One without a body, or with half of one, is what
// dockerd's HTTP client makes of a retry, and not what dockerd has asked.
// List and Capabilities have none by right, and say so by their type.
func decode[Request any](body io.Reader) (request Request, err error) {
	if _, empty := any(request).(struct{}); empty {
		return request, nil
	}
	// All of it: net/http tells that a client has left only behind its end.
	data, err := io.ReadAll(io.LimitReader(body, maxRequest))
	if err == nil {
		err = json.NewDecoder(bytes.NewReader(data)).Decode(&request)
	}
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return request, fmt.Errorf("%w: the request has no body: %w", errUncertain, err)
	case err != nil:
		return request, fmt.Errorf("the request is not what Docker's volume plugin protocol has: %w", err)
	}
	return request, nil
}

func (d *Docker) capabilities(context.Context, struct{}) (api.CapabilitiesResponse, error) {
	return api.CapabilitiesResponse{Capabilities: api.Capability{Scope: "global"}}, nil
}

func (d *Docker) create(ctx context.Context, r api.CreateRequest) (struct{}, error) {
	return struct{}{}, d.manager.Create(ctx, r.Name, r.Options)
}

func (d *Docker) get(ctx context.Context, r api.GetRequest) (api.GetResponse, error) {
	if d.isReleased(r.Name) {
		return api.GetResponse{}, fmt.Errorf("volume %s is released: %w", r.Name, volume.ErrNotFound)
	}
	v, err := d.manager.Get(ctx, r.Name)
	if err != nil {
		return api.GetResponse{}, uncertain(err)
	}
	return api.GetResponse{Volume: &api.Volume{
		Name:       v.Name,
		Mountpoint: v.Mountpoint,
		CreatedAt:  v.Created.Format(time.RFC3339),
		Status:     status(v),
	}}, nil
}

// uncertain marks every error but the certainty that there is no such volume.
func uncertain(err error) error {
	if errors.Is(err, volume.ErrNotFound) {
		return err
	}
	return fmt.Errorf("%w: %w", errUncertain, err)
}

// status is what 'docker volume inspect' shows of a volume.
func status(v volume.Volume) map[string]any {
	s := map[string]any{
		"store":     v.Store,
		"path":      v.Dir(),
		"client":    map[string]any{"pid": v.Client.PID, "health": v.Client.Health},
		"users":     v.Users,
		"on-remove": string(v.Options.OnRemove),
	}
	if v.Limit > 0 {
		s["size-limit"] = v.Limit
	}
	if v.Trouble != "" {
		s["trouble"] = v.Trouble
	}
	return s
}

func (d *Docker) list(context.Context, struct{}) (api.ListResponse, error) {
	response := api.ListResponse{Volumes: []*api.Volume{}}
	for v := range d.manager.List() {
		response.Volumes = append(response.Volumes, &api.Volume{
			Name:       v.Name,
			Mountpoint: v.Mountpoint,
			CreatedAt:  v.Created.Format(time.RFC3339),
		})
	}
	return response, nil
}

// mount takes a mount back when dockerd has left before the answer: it counts
// that as failed, and would never unmount it.
func (d *Docker) mount(ctx context.Context, r api.MountRequest) (api.MountResponse, error) {
	path, err := d.manager.Mount(ctx, r.Name, r.ID)
	if err != nil {
		return api.MountResponse{}, err
	}
	if ctx.Err() != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadline)
		defer cancel()
		return api.MountResponse{}, errors.Join(context.Cause(ctx), d.manager.Unmount(undo, r.Name, r.ID))
	}
	return api.MountResponse{Mountpoint: d.form.Path(path)}, nil
}

func (d *Docker) path(ctx context.Context, r api.PathRequest) (api.PathResponse, error) {
	v, err := d.manager.Get(ctx, r.Name)
	if err != nil {
		return api.PathResponse{}, uncertain(err)
	}
	return api.PathResponse{Mountpoint: d.form.Path(v.Mountpoint)}, nil
}

// remove succeeds for a volume that is gone already: dockerd repeats itself.
func (d *Docker) remove(ctx context.Context, r api.RemoveRequest) (struct{}, error) {
	err := d.manager.Remove(ctx, r.Name, "", false)
	if errors.Is(err, volume.ErrNotFound) {
		err = nil
	}
	return struct{}{}, err
}

func (d *Docker) unmount(ctx context.Context, r api.UnmountRequest) (struct{}, error) {
	return struct{}{}, d.manager.Unmount(ctx, r.Name, r.ID)
}
