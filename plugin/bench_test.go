package plugin

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/glustervol/glustervol/volume"
)

// BenchmarkDocker is what dockerd's requests cost but for the manager's part.
func BenchmarkDocker(b *testing.B) {
	list := make([]volume.Volume, 10000)
	for i := range list {
		list[i].Definition = volume.Definition{Name: fmt.Sprint("web", i), Created: time.Now()}
	}
	s := serveDocker(b, &fakeManager{
		get:  func(context.Context, string) (volume.Volume, error) { return list[0], nil },
		list: func() []volume.Volume { return list },
	})
	for _, method := range []string{"Get", "List"} {
		b.Run(method, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := s.post(b, "/VolumeDriver."+method, `{"Name": "web0"}`); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
