package xdsserver

import (
	"context"
	"runtime/debug"
	"time"
)

const (
	// restEvery is how long no proxy may have come before memory goes back.
	restEvery = 5 * time.Second
	// manyProxies are so many that what their arrival left behind is worth a collection.
	manyProxies = 100
)

// giveBack returns memory to the system after many proxies have come, as all do
// after a restart: what they said of themselves passes through once, and the
// runtime would keep the room for minutes.
func giveBack(ctx context.Context, opened func() int64) error {
	t := time.NewTicker(restEvery)
	defer t.Stop()
	last, returned := opened(), opened()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		now := opened()
		if now == last && now-returned >= manyProxies {
			debug.FreeOSMemory() // moves what the pools hold one step towards the end
			debug.FreeOSMemory() // and now it goes
			returned = now
		}
		last = now
	}
}
