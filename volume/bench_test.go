package volume

import (
	"fmt"
	"testing"
	"time"
)

// The store of these is a directory in memory: what they measure is the driver's own part.
// 'make bench-compare' holds them against another commit's.

func BenchmarkCheckName(b *testing.B) {
	for b.Loop() {
		if CheckName("some-stack_web.data") != nil {
			b.Fatal("refused")
		}
	}
}

func BenchmarkParseOptions(b *testing.B) {
	options := map[string]string{"uid": "999", "mode": "0750", "client-options": "acl,attribute-timeout=30"}
	for b.Loop() {
		if _, err := ParseOptions(options); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCatalog is the life of a volume's definition.
func BenchmarkCatalog(b *testing.B) {
	c := newDisk(b).catalog(b, Node{ID: "node-a"})
	for i := 0; b.Loop(); i++ {
		def := mustCreate(b, c, definition(fmt.Sprint("web", i), nil), false)
		must(b, c.remove(b.Context(), def, true, unusedByAnyone))
	}
}

// BenchmarkReference is a reference that is published and taken back.
func BenchmarkReference(b *testing.B) {
	c := newDisk(b).catalog(b, Node{ID: "node-a"})
	def := mustCreate(b, c, definition("web", nil), false)
	for b.Loop() {
		must(b, c.refer(b.Context(), def))
		must(b, c.unrefer(b.Context(), def.ID))
	}
}

// BenchmarkMount is a Mount and its Unmount, with the client there.
func BenchmarkMount(b *testing.B) {
	m, _, _ := oneStore(b)
	must(b, m.Create(b.Context(), "web", nil))
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprint(i)
		_, err := m.Mount(b.Context(), "web", id)
		must(b, err)
		must(b, m.Unmount(b.Context(), "web", id))
	}
}

// manyVolumes is a driver that knows as many.
func manyVolumes(b *testing.B, count int) *Manager {
	b.Helper()
	m, _, _ := oneStore(b)
	for i := range count {
		m.stores[0].remember(definition(fmt.Sprint("web", i), nil))
	}
	return m
}

func BenchmarkGet10000(b *testing.B) {
	m := manyVolumes(b, 10000)
	for b.Loop() {
		_, err := m.Get(b.Context(), "web5000")
		must(b, err)
	}
}

func BenchmarkList10000(b *testing.B) {
	m := manyVolumes(b, 10000)
	for b.Loop() {
		n := 0
		for range m.List() {
			n++
		}
		if n != 10000 {
			b.Fatal("volumes are missing")
		}
	}
}

// BenchmarkFollow is what the driver does every second when nothing happens.
func BenchmarkFollow(b *testing.B) {
	m := manyVolumes(b, 10000)
	s := m.stores[0]
	must(b, s.follow(b.Context()))
	s.swept = time.Now().Add(time.Hour) // no sweep
	for b.Loop() {
		must(b, s.follow(b.Context()))
	}
}
