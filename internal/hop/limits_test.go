package hop

import "testing"

// What the doors before it let through, and what is added on the way, every door takes.
func TestEveryDoorTakesWhatComesThroughTheOneBefore(t *testing.T) {
	for _, way := range [][2]Door{{Gateway, Inbound}, {Outbound, Inbound}, {Gateway, Outbound}} {
		from, to := At(way[0]), At(way[1])
		if need := from.HeaderLines + ownLines + EditLines; to.HeaderLines < need {
			t.Errorf("%s to %s: %d lines, needs %d", way[0], way[1], to.HeaderLines, need)
		}
		if need := from.HeaderKiB<<10 + ownBytes + EditBytes; to.HeaderKiB<<10 < need {
			t.Errorf("%s to %s: %d bytes, needs %d", way[0], way[1], to.HeaderKiB<<10, need)
		}
	}
	if MeshAnswerLines < AppAnswerLines+ownLines+EditLines || MeshAnswerKiB<<10 < AppAnswerKiB<<10+ownBytes+EditBytes {
		t.Error("a proxy refuses answers that another one has taken from the application")
	}
	for _, d := range []Door{Outbound, Inbound} {
		l := At(d)
		if uint64(l.ConnectionWindow) < uint64(l.Streams)*uint64(l.StreamWindow) || l.ConnectionWindow > 1<<31-1 {
			t.Errorf("%s: readers that are slow keep others from the connection's window", d)
		}
		if l.ControlFrames < l.Streams || l.Frames < l.Streams || l.HeadersTimeout != 0 || l.Idle <= PoolIdle {
			t.Errorf("%s: %+v", d, l)
		}
	}
	if g := At(Gateway); g.Idle <= PoolIdle || g.HeadersTimeout == 0 {
		t.Errorf("gateway: %+v", g)
	}
}
