package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

const pluginSocket = "/run/docker/plugins/glustervol.sock"

// answer is what the driver answers to any request of Docker's.
type answer struct {
	Err          string
	Mountpoint   string
	Volume       map[string]any
	Volumes      []map[string]any
	Implements   []string
	Capabilities struct{ Scope string }
}

// errNoAnswer says that the driver broke the connection instead of answering.
var errNoAnswer = errors.New("the connection broke")

// tryAsk puts a request to the plugin socket, as dockerd does.
func tryAsk(ctx context.Context, method, body string) (answer, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", pluginSocket)
		},
	}}
	if method != "Plugin.Activate" {
		method = "VolumeDriver." + method
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://glustervol/"+method, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	response, err := client.Do(request)
	if errors.Is(err, io.EOF) {
		return answer{}, errNoAnswer
	}
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	var a answer
	return a, json.NewDecoder(response.Body).Decode(&a)
}

// ask puts a request to the plugin socket and returns the answer, an error's
// included.
func ask(t testing.TB, method, body string) answer {
	t.Helper()
	a, err := tryAsk(t.Context(), method, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, body, err)
	}
	return a
}
