package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/volume"
)

// AdminClient asks the running driver of this node.
type AdminClient struct {
	socket string
	http   http.Client
}

// NewAdminClient returns a client of the admin API on a socket.
func NewAdminClient(socket string) *AdminClient {
	return &AdminClient{
		socket: socket,
		http: http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			},
		}},
	}
}

// Info describes the driver.
func (c *AdminClient) Info(ctx context.Context) (info Info, err error) {
	return info, c.call(ctx, http.MethodGet, "/v1/info", nil, &info)
}

// List lists the volumes.
func (c *AdminClient) List(ctx context.Context) (list []VolumeInfo, err error) {
	return list, c.call(ctx, http.MethodGet, "/v1/volumes", nil, &list)
}

// Inspect describes a volume.
func (c *AdminClient) Inspect(ctx context.Context, name string) (v VolumeInfo, err error) {
	return v, c.callOn(ctx, http.MethodGet, name, "", &v)
}

// Create makes a volume.
func (c *AdminClient) Create(ctx context.Context, name string, options map[string]string) (v VolumeInfo, err error) {
	return v, c.call(ctx, http.MethodPost, "/v1/volumes", createRequest{Name: name, Options: options}, &v)
}

// Remove removes a volume; store and keepData are volume.Manager.Remove's.
func (c *AdminClient) Remove(ctx context.Context, name, store string, keepData bool) error {
	query := url.Values{}
	if store != "" {
		query.Set("store", store)
	}
	if keepData {
		query.Set("keep-data", "")
	}
	return c.callOn(ctx, http.MethodDelete, name, "?"+query.Encode(), nil)
}

// Mount mounts a volume by hand and returns its path.
func (c *AdminClient) Mount(ctx context.Context, name string) (string, error) {
	var answer mountAnswer
	err := c.callOn(ctx, http.MethodPost, name, "/mount", &answer)
	return answer.Mountpoint, err
}

// Unmount ends a mount by hand.
func (c *AdminClient) Unmount(ctx context.Context, name string) error {
	return c.callOn(ctx, http.MethodPost, name, "/unmount", nil)
}

// Trash lists the trash. The error may tell of a part that could not be read.
func (c *AdminClient) Trash(ctx context.Context) ([]volume.Trashed, error) {
	var answer trashAnswer
	err := c.call(ctx, http.MethodGet, "/v1/trash", nil, &answer)
	if answer.Error != "" {
		err = errors.New(answer.Error)
	}
	return answer.Entries, err
}

// Restore brings a volume back from the trash and returns its name.
func (c *AdminClient) Restore(ctx context.Context, which, as string) (string, error) {
	var answer restoreAnswer
	err := c.call(ctx, http.MethodPost, "/v1/trash/restore", restoreRequest{Which: which, As: as}, &answer)
	return answer.Name, err
}

// EmptyTrash purges what is named, or all, and reports how far it is.
func (c *AdminClient) EmptyTrash(ctx context.Context, which []string, report func(volume.Progress)) error {
	response, err := c.send(ctx, http.MethodPost, "/v1/trash/empty", emptyRequest{Which: which})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	events := json.NewDecoder(response.Body)
	for {
		var event emptyEvent
		if err := events.Decode(&event); err != nil {
			return fmt.Errorf("the driver left in the middle of the purge; call it again, and it goes on: %w", err)
		}
		switch {
		case event.Error != "":
			return errors.New(event.Error)
		case event.Done:
			return nil
		}
		report(event.Progress)
	}
}

// Nodes lists the nodes of all stores. The error may tell of a part that could
// not be asked.
func (c *AdminClient) Nodes(ctx context.Context) ([]volume.NodeInfo, error) {
	var answer nodesAnswer
	err := c.call(ctx, http.MethodGet, "/v1/nodes", nil, &answer)
	if answer.Error != "" {
		err = errors.New(answer.Error)
	}
	return answer.Nodes, err
}

// Reports tells what the driver sees of its stores. It takes volume.ReportTime at most.
func (c *AdminClient) Reports(ctx context.Context) (reports []volume.StoreReport, err error) {
	return reports, c.call(ctx, http.MethodGet, "/v1/reports", nil, &reports)
}

// Forget has a node that is gone for good not count any more.
func (c *AdminClient) Forget(ctx context.Context, node string) error {
	if err := volume.CheckName(node); err != nil {
		return err
	}
	return c.call(ctx, http.MethodDelete, "/v1/nodes/"+node, nil, nil)
}

// callOn is call about a volume. What is no name may be another path.
func (c *AdminClient) callOn(ctx context.Context, method, name, rest string, answer any) error {
	if err := volume.CheckName(name); err != nil {
		return err
	}
	return c.call(ctx, method, "/v1/volumes/"+name+rest, nil, answer)
}

// call sends a request and reads the answer into answer, unless that is nil.
func (c *AdminClient) call(ctx context.Context, method, path string, request, answer any) error {
	response, err := c.send(ctx, method, path, request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if answer == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

// send sends a request and returns the answer, unless that is a failure.
func (c *AdminClient) send(ctx context.Context, method, path string, request any) (*http.Response, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://glustervol"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(r)
	if err != nil {
		return nil, c.explain(err)
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	var failed failure
	if err := json.NewDecoder(response.Body).Decode(&failed); err != nil || failed.Error == "" {
		return nil, fmt.Errorf("the driver answers %s: %s %s is not known to it; is it of another version?", response.Status, method, path)
	}
	return nil, errors.New(failed.Error)
}

// explain tells a person what to do when the driver cannot be asked.
func (c *AdminClient) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("the glustervol driver does not run on this node (nobody serves %s); start it with 'systemctl start glustervol' or 'docker plugin enable glustervol'", c.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s is root's; use sudo", c.socket)
	}
	return err
}
