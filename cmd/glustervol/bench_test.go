package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/mount"
	"github.com/glustervol/glustervol/plugin"
	"github.com/glustervol/glustervol/volume"
)

// benchRounds is how often each operation is measured.
var benchRounds = flag.Int("rounds", 60, "how often BenchmarkControlPlanes measures each operation")

// benchFiles is how many files the large volume has.
const benchFiles = 2000

// BenchmarkControlPlanes measures operations of both control planes side by
// side on one Gluster volume, against mkdir, rename and rmdir on a mount made by
// hand, and prints medians. Each round does every operation once, so that all
// meet the same machine.
func BenchmarkControlPlanes(b *testing.B) {
	for _, kind := range []struct {
		doc    string
		bricks int
		args   []string
	}{
		{"one brick", 1, nil},
		{"replica 3", 3, []string{"replica", "3"}},
	} {
		b.Run(strings.ReplaceAll(kind.doc, " ", "-"), func(b *testing.B) {
			gv := testnode.NewGlusterVolume(b, kind.bricks, "", kind.args...)
			bench := newBench(b, gv)
			for b.Loop() {
				for round := range *benchRounds {
					bench.round(round)
				}
			}
			bench.print(kind.doc)
		})
	}
}

// bench measures on one Gluster volume.
type bench struct {
	b       *testing.B
	mounted string
	planes  []*benchPlane
	// times has what was measured, by operation and way.
	times map[string]map[string][]time.Duration
	// operations are the keys of times, in the order of their first measurement.
	operations []string
}

// benchPlane is a control plane, its files, and a driver that stands on it.
type benchPlane struct {
	kind    string
	files   gluster.FS
	manager *volume.Manager
	client  *http.Client
}

// byHand is the way of who has mounted the Gluster volume by hand.
const byHand = "by hand"

func newBench(b *testing.B, gv *testnode.GlusterVolume) *bench {
	b.Helper()
	s := &bench{b: b, mounted: b.TempDir(), times: map[string]map[string][]time.Duration{}}
	if out, err := exec.Command("mount", "-t", "glusterfs", gv.Address(), s.mounted).CombinedOutput(); err != nil {
		b.Fatalf("mount: %v: %s", err, out)
	}
	b.Cleanup(func() { s.must(exec.Command("umount", s.mounted).Run()) })
	for _, kind := range []string{volume.ControlAPI, volume.ControlFUSE} {
		s.must(os.Mkdir(filepath.Join(s.mounted, kind), 0o755))
		p := s.newPlane(kind, gv.Address()+"/"+kind)
		s.planes = append(s.planes, p)
		s.plant(p)
	}
	return s
}

// newPlane starts a driver on a store of its own, and opens the same control
// plane once more to measure its files.
func (s *bench) newPlane(kind, store string) *benchPlane {
	s.b.Helper()
	dir := s.b.TempDir()
	log := slog.New(slog.DiscardHandler)
	address, err := gluster.ParseAddress(store)
	s.must(err)
	clients := mount.NewClients(mount.Config{RunDir: filepath.Join(dir, "clients"), LogDir: dir, Binary: "glusterfs", Log: log})
	control, err := volume.NewControl(kind, clients, dir, log)
	s.must(err)
	manager, err := volume.New(volume.Config{
		Stores: []gluster.Address{address}, Node: volume.Node{ID: "bench-" + kind, Session: "1"},
		RunDir: dir, StateDir: dir, Control: control, Clients: clients, Log: log,
	})
	s.must(err)
	socket := filepath.Join(dir, "plugin.sock")
	listener, err := net.Listen("unix", socket)
	s.must(err)
	docker := plugin.NewDocker(manager, plugin.Legacy(socket), log)
	go func() { _ = docker.Serve(listener) }()
	files, err := control.Open(s.b.Context(), address)
	s.must(err)
	s.b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		s.must(listener.Close())
		docker.Wait(ctx)
		s.must(files.Close())
		s.must(manager.Close())
		s.must(clients.Close(ctx))
	})
	return &benchPlane{kind: kind, files: files, manager: manager, client: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

// plant makes volumes to be listed and one that is large.
func (s *bench) plant(p *benchPlane) {
	s.b.Helper()
	for i := range 100 {
		s.driver(p, "Create", fmt.Sprintf("old%d", i))
	}
	s.driver(p, "Create", "large")
	for i := range benchFiles {
		s.must(os.WriteFile(filepath.Join(s.mounted, p.kind, "volumes/large", fmt.Sprint(i)), nil, 0o600))
	}
}

// round measures each operation once.
func (s *bench) round(round int) {
	s.b.Helper()
	s.roundByHand(fmt.Sprint("hand", round))
	for _, p := range s.planes {
		s.roundFiles(p, fmt.Sprint("fs", round))
		name := fmt.Sprintf("web%d-%d", round, time.Now().UnixNano())
		for _, method := range []string{"Create", "Get", "List", "Remove"} {
			s.measure("VolumeDriver."+method, p.kind, func() error { s.driver(p, method, name); return nil })
		}
		if round%20 == 0 {
			s.measure(fmt.Sprintf("VolumeDriver.Remove, %d files", benchFiles), p.kind, func() error { s.driver(p, "Remove", "large"); return nil })
			_, err := p.manager.Restore(s.b.Context(), "large", "")
			s.must(err)
		}
	}
}

func (s *bench) roundByHand(name string) {
	dir, moved := filepath.Join(s.mounted, name), filepath.Join(s.mounted, name+"-moved")
	s.measure("mkdir", byHand, func() error { return os.Mkdir(dir, 0o755) })
	s.measure("lstat", byHand, func() error { _, err := os.Lstat(dir); return err })
	s.measure("rename", byHand, func() error { return os.Rename(dir, moved) })
	s.measure("rmdir", byHand, func() error { return os.Remove(moved) })
}

func (s *bench) roundFiles(p *benchPlane, name string) {
	ctx, fs := s.b.Context(), p.files
	data := []byte(strings.Repeat("x", 400))
	s.measure("mkdir", p.kind, func() error { return fs.Mkdir(ctx, name, 0o755) })
	s.measure("lstat", p.kind, func() error { _, err := fs.Lstat(ctx, name); return err })
	s.measure("rename", p.kind, func() error { return fs.Rename(ctx, name, name+"-moved") })
	s.measure("rmdir", p.kind, func() error { return fs.Remove(ctx, name+"-moved") })
	s.measure("create, write, fsync", p.kind, func() error { _, err := fs.Create(ctx, name, data); return err })
	s.measure("read", p.kind, func() error { _, err := fs.ReadFile(ctx, name); return err })
	s.measure("unlink", p.kind, func() error { return fs.Remove(ctx, name) })
	s.measure("readdir, 100 names", p.kind, func() error { _, err := fs.ReadDir(ctx, "volumes"); return err })
}

// driver asks the plane's driver as dockerd does.
func (s *bench) driver(p *benchPlane, method, name string) {
	s.b.Helper()
	s.request(p, method, map[string]any{"Name": name})
}

func (s *bench) request(p *benchPlane, method string, body map[string]any) {
	s.b.Helper()
	data, err := json.Marshal(body)
	s.must(err)
	request, err := http.NewRequestWithContext(s.b.Context(), http.MethodPost, "http://driver/VolumeDriver."+method, strings.NewReader(string(data)))
	s.must(err)
	response, err := p.client.Do(request)
	s.must(err)
	defer response.Body.Close()
	var a answer
	s.must(json.NewDecoder(response.Body).Decode(&a))
	if a.Err != "" {
		s.b.Fatalf("%s %v: %s", method, body, a.Err)
	}
}

func (s *bench) measure(operation, way string, do func() error) {
	s.b.Helper()
	start := time.Now()
	err := do()
	took := time.Since(start)
	if err != nil {
		s.b.Fatalf("%s, %s: %v", operation, way, err)
	}
	if s.times[operation] == nil {
		s.times[operation] = map[string][]time.Duration{}
		s.operations = append(s.operations, operation)
	}
	s.times[operation][way] = append(s.times[operation][way], took)
}

// print prints the medians, and what stands against the figures by hand.
func (s *bench) print(doc string) {
	fmt.Printf("\nmedians of %d rounds on a Gluster volume of %s, in ms\n", *benchRounds, doc)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "operation\tby hand\tgfapi\tfuse\tfuse/gfapi")
	for _, operation := range s.operations {
		api, fuse := s.median(operation, volume.ControlAPI), s.median(operation, volume.ControlFUSE)
		hand := "-"
		if len(s.times[operation][byHand]) > 0 {
			hand = fmt.Sprintf("%.2f", s.median(operation, byHand))
		}
		fmt.Fprintf(w, "%s\t%s\t%.2f\t%.2f\t%.1f\n", operation, hand, api, fuse, fuse/api)
	}
	_ = w.Flush()
	mkdir, rename := s.median("mkdir", byHand), s.median("rename", byHand)
	for _, kind := range []string{volume.ControlAPI, volume.ControlFUSE} {
		fmt.Printf("%s: VolumeDriver.Create = %.1f mkdir by hand (wanted: 3), VolumeDriver.Remove = %.1f rename by hand (wanted: 4)\n",
			kind, s.median("VolumeDriver.Create", kind)/mkdir, s.median("VolumeDriver.Remove", kind)/rename)
	}
}

// median is in milliseconds.
func (s *bench) median(operation, way string) float64 {
	times := slices.Sorted(slices.Values(s.times[operation][way]))
	if len(times) == 0 {
		return 0
	}
	return float64(times[len(times)/2].Microseconds()) / 1000
}

func (s *bench) must(err error) {
	s.b.Helper()
	if err != nil {
		s.b.Fatal(err)
	}
}
