package cli

import (
	"context"
	"io/fs"
	"math"
	"time"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/compile"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/sandbox"
)

// boundFlags bound a compile as a whole.
type boundFlags struct {
	time   time.Duration
	memory int64             // MiB
	ready  *compile.Compiler // once something was compiled, with what it holds ready for more
}

func (f *boundFlags) add(cmd *cobra.Command) {
	usual := compile.Default()
	cmd.Flags().DurationVar(&f.time, "compile-time", usual.Time, "how long a compile may take as a whole")
	cmd.Flags().Int64Var(&f.memory, "compile-memory", usual.Memory>>20, "MiB of memory for a compile as a whole, beside that of each package")
}

// compiler makes the compiler that keeps to the bounds. cache may be nil.
func (f *boundFlags) compiler(cache compiler.Cache) (*compile.Compiler, error) {
	memory := int64(math.MaxInt64)
	if f.memory <= memory>>20 {
		memory = f.memory << 20
	}
	c, err := compile.New(compile.Bounds{Time: f.time, Memory: memory}, cache)
	if err != nil {
		return nil, fail(diag.ExitFailure, "%v: see --compile-time and --compile-memory", err)
	}
	return c, nil
}

// readyPackages is how many evaluated packages a command has at hand, for a second side and
// for another round.
const readyPackages = 10_000

// bounded does the work of a command that compiles, under the bounds.
func bounded[T any](ctx context.Context, f *boundFlags, work func(context.Context, *compile.Compiler) (T, error)) (T, error) {
	if f.ready == nil {
		var err error
		if f.ready, err = f.compiler(compiler.MemoryCache(readyPackages, userCache("cue"))); err != nil {
			var none T
			return none, err
		}
	}
	c := f.ready
	return compile.Within(ctx, c, func(ctx context.Context) (T, error) { return work(ctx, c) })
}

// standBy has what is slow to start ready for another round, and close ends it.
func (f *boundFlags) standBy() {
	if f.ready != nil {
		f.ready.StandBy()
	}
}

func (f *boundFlags) close() {
	if f.ready != nil {
		f.ready.Close()
	}
}

// loaded is a program, nil with an error among the problems.
type loaded struct {
	program  *compiler.Program
	problems diag.List
}

// load compiles files to a program, if the intent lets it.
func (f *boundFlags) load(ctx context.Context, fsys fs.FS, o compiler.Options) (*compiler.Program, diag.List, error) {
	l, err := bounded(ctx, f, func(ctx context.Context, c *compile.Compiler) (loaded, error) {
		p, ds, err := c.Load(ctx, fsys, o)
		return loaded{p, ds}, err
	})
	return l.program, l.problems, err
}

// tellLimits says what this system does not limit in a child, if anything.
func (a *app) tellLimits() error {
	d, lacks := sandbox.Warning()
	if !lacks {
		return nil
	}
	return a.warn(diag.List{d})
}
