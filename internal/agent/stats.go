package agent

import "sync/atomic"

// stats are counters of one agent, for its metrics page.
type stats struct {
	renewals, renewFailures          atomic.Int64
	adsStreams, adsActive, adsFailed atomic.Int64
	adsUpFrames, adsUpBytes          atomic.Int64
	adsDownFrames, adsDownBytes      atomic.Int64
	sdsActive, sdsPushes, sdsNacks   atomic.Int64
}
