package agent

import (
	"context"
	"runtime/debug"
	"time"
)

// restEvery is how long nothing may have happened before memory goes back.
const restEvery = 5 * time.Second

// giveBack returns memory to the system once after every time of work. A large
// configuration passes in a second and leaves buffers behind that the runtime
// would keep for minutes, in every pod; the agent's own data is about 4 MiB.
func giveBack(ctx context.Context, s *stats) error {
	work := func() int64 {
		return s.adsUpFrames.Load() + s.adsDownFrames.Load() + s.adsStreams.Load() + s.sdsPushes.Load() + s.renewals.Load()
	}
	last, trimmed := work(), false
	for pause(ctx, restEvery) {
		now := work()
		if now == last && !trimmed {
			debug.FreeOSMemory() // moves what the pools hold one step towards the end
			debug.FreeOSMemory() // and now it goes
			trimmed = true
		}
		if now != last {
			last, trimmed = now, false
		}
	}
	return nil
}
