package volume

import (
	"context"

	"github.com/glustervol/glustervol/mount"
)

// earlyClient is a client that starts while the store is still asked whether the volume may
// be mounted: both take their time. Nothing of it is handed out; that is for Clients.Mount,
// which verifies it, behind what the store has said.
type earlyClient struct {
	key  string
	done chan struct{}
	// err is why it has not started; read behind done.
	err error
	// end has it be ended again, unless it has another user by now.
	end func()
}

// startEarly starts the client that a volume will most likely want, unless it runs, or the
// store did not answer lately. The caller ends it; one that was not started does nothing.
func (m *Manager) startEarly(ctx context.Context, name string) *earlyClient {
	s, def, known := m.knownOnce(name, "")
	if !known || !s.wasReached() || s.lastTrouble() != nil {
		return &earlyClient{end: func() {}}
	}
	source := m.source(s, def)
	if m.config.Clients.Status(source.Key()).PID != 0 {
		return &earlyClient{end: func() {}}
	}
	return m.startClient(ctx, source, name+" is about to be mounted") // no volume has such a name
}

func (m *Manager) startClient(ctx context.Context, source mount.Source, user string) *earlyClient {
	ctx, cancel := context.WithCancel(ctx)
	early := &earlyClient{key: source.Key(), done: make(chan struct{})}
	go func() {
		defer close(early.done)
		_, early.err = m.config.Clients.Use(ctx, source, user)
	}()
	early.end = func() {
		cancel()
		<-early.done
		if early.err == nil {
			m.config.Clients.Release(early.key, user)
		}
	}
	return early
}

// await waits for the client of key. An error that it had before the store has answered is none:
// bricks that were coming back may be there by now, so that Clients.Mount tries once more.
func (e *earlyClient) await(key string) error {
	if e.key != key {
		return nil
	}
	select {
	case <-e.done:
		return nil
	default:
	}
	<-e.done
	return e.err
}
