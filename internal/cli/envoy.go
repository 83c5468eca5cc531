package cli

import (
	"context"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/proof"
)

// envoyFlags say whether a real Envoy is asked, and which.
type envoyFlags struct {
	ask   bool
	path  string
	local bool
}

// add puts in the flag that asks for an Envoy under the command's own word.
func (f *envoyFlags) add(cmd *cobra.Command, word, usage string) {
	fl := cmd.Flags()
	fl.BoolVar(&f.ask, word, false, usage)
	fl.StringVar(&f.path, "envoy-path", "", "use this Envoy (default: on PATH, in the cache, or fetched); implies --"+word)
	fl.BoolVar(&f.local, "no-download", false, "fetch no Envoy")
}

func (f *envoyFlags) wanted() bool { return f.ask || f.path != "" }

func (f *envoyFlags) find(ctx context.Context, a *app) (envoybin.Binary, error) {
	return envoybin.Find(ctx, envoybin.Options{Path: f.path, Download: !f.local, Log: a.logger()})
}

// supervised is for commands that start programs: none may outlive the command, which
// gets the time that it needs to stop them. It ends also where a closed terminal or a
// reader that goes away (| head) would end this program and leave them behind.
func (a *app) supervised(ctx context.Context) (context.Context, context.CancelFunc) {
	a.cleansUp.Store(true)
	return a.until(ctx, syscall.SIGHUP, syscall.SIGPIPE)
}

// prove has a real Envoy judge a release, and returns its version as well.
func (a *app) prove(ctx context.Context, f *envoyFlags, r release.Release) (proof.Result, string, error) {
	ctx, stop := a.supervised(ctx)
	defer stop()
	bin, err := f.find(ctx, a)
	if err != nil {
		return proof.Result{}, "", err
	}
	res, err := proof.Release(ctx, bin, r, userCache("proof"))
	return res, bin.Version, err
}

// userCache is the folder of that name in the user's cache, nil if there is no such place.
func userCache(name string) compiler.Cache {
	if dir := userFolder(name); dir != "" {
		return compiler.DirCache(dir)
	}
	return nil
}

// userFolder is the path of that folder, "" if there is no such place.
func userFolder(name string) string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "meshc", name)
}
