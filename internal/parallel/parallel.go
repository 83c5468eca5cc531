// Package parallel spreads work that is pure computing over the cores.
//
// In: how many pieces there are, and the work on one. Out: nothing but the work's own results.
package parallel

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Each runs f(0…n-1), on all cores, and returns when all are done. f writes only to what belongs
// to its own index.
func Each(n int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}
