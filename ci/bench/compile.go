package main

import (
	"fmt"
	"io/fs"
	"math"
	"runtime"
	"time"

	"meshc.dev/meshc/ci/bench/internal/measure"
	"meshc.dev/meshc/ci/bench/internal/report"
	"meshc.dev/meshc/ci/bench/internal/sample"
	"meshc.dev/meshc/compiler"
)

// compileDate is that of all compiles here.
func compileDate() time.Time { return time.Date(2027, 1, 15, 0, 0, 0, 0, time.UTC) }

// compileOnce loads and releases, and gives the release's digest.
func compileOnce(files fs.FS, o compiler.Options) (string, error) {
	p, ds := compiler.Load(files, o)
	if err := ds.Err(); err != nil {
		return "", fmt.Errorf("loading: %w", err)
	}
	r, ds := p.Release()
	if err := ds.Err(); err != nil {
		return "", fmt.Errorf("releasing: %w", err)
	}
	return r.Digest(), nil
}

func remembering() compiler.Options {
	return compiler.Options{At: compileDate(), Cache: compiler.MemoryCache(2000, nil), Memo: compiler.NewMemo()}
}

// compile measures Load and Release, from files to a sealed release.
func (b *bench) compile(s report.Section) error {
	sizes := []int{10, 100, 1000, 5000}
	if b.quick {
		sizes = []int{10, 100}
	}
	cold := map[int]time.Duration{}
	for _, n := range sizes {
		best, err := b.compileSize(s, n)
		if err != nil {
			return fmt.Errorf("%d services: %w", n, err)
		}
		cold[n] = best
	}
	last := sizes[len(sizes)-1]
	s.AtMost(1.1, fmt.Sprintf("growth from 100 to %d services", last), exponent(cold, 100, last), "exponent", "1 is linear; best times")
	return nil
}

// exponent is that of the power of n with which a time grows.
func exponent(at map[int]time.Duration, a, b int) float64 {
	if a == b {
		return 1
	}
	return math.Log(float64(at[b])/float64(at[a])) / math.Log(float64(b)/float64(a))
}

// ms writes milliseconds as the report does.
func ms(d time.Duration) string { return report.Number(measure.MS(d)) }

func (b *bench) compileSize(s report.Section, n int) (time.Duration, error) {
	mesh := sample.New(n)
	rounds := 5
	if n >= 5000 {
		rounds = 2
	}
	var cold, cpu, warm, warmCPU measure.Samples
	var o compiler.Options
	for range rounds {
		o = remembering()
		runtime.GC()
		used, start := measure.CPU(), time.Now()
		if _, err := compileOnce(mesh.FS(), o); err != nil {
			return 0, err
		}
		cold, cpu = append(cold, time.Since(start)), append(cpu, measure.CPU()-used)
		if err := b.ctx.Err(); err != nil {
			return 0, err
		}
	}
	var digest string
	last := 2*rounds + 3
	for i := range last {
		edited := mesh.Edited(n/2, 4+i)
		used, start := measure.CPU(), time.Now()
		var err error
		if digest, err = compileOnce(edited.FS(), o); err != nil {
			return 0, err
		}
		warm, warmCPU = append(warm, time.Since(start)), append(warmCPU, measure.CPU()-used)
	}
	if full, err := compileOnce(mesh.Edited(n/2, 3+last).FS(), compiler.Options{At: compileDate()}); err != nil || full != digest {
		s.Wrong("%d services: after edits the release is %.12s, from nothing %.12s, %v", n, digest, full, err)
	}
	coldText, warmText := fmt.Sprintf("%d services, cold", n), fmt.Sprintf("%d services, after one edit", n)
	const note = "best of %d, median %s ms; CPU %s ms"
	if n == 1000 {
		s.AtMost(2000, coldText, measure.MS(cold.Best()), "ms", note, len(cold), ms(cold.Median()), ms(cpu.Best()))
		s.AtMost(50, warmText, measure.MS(warm.Best()), "ms", note, len(warm), ms(warm.Median()), ms(warmCPU.Best()))
	} else {
		s.Add(coldText, measure.MS(cold.Best()), "ms", note, len(cold), ms(cold.Median()), ms(cpu.Best()))
		s.Add(warmText, measure.MS(warm.Best()), "ms", note, len(warm), ms(warm.Median()), ms(warmCPU.Best()))
	}
	return cold.Best(), nil
}
