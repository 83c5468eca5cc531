package cli

import (
	"context"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/compile"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/schemas/reference"
)

// This file answers shells that complete a word. They ask while somebody types: nothing is
// told of what is wrong, and an answer that takes long is given up.

// completing is how long a shell may wait for the names of a mesh.
const completing = 3 * time.Second

// completion completes by a list that is made when it is asked for.
func completion(list func(cmd *cobra.Command, args []string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var out []string
		for _, w := range list(cmd, args) {
			if strings.HasPrefix(w, typed) {
				out = append(out, w)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// completes lets a shell complete what a flag takes.
func completes(cmd *cobra.Command, flag string, list func(cmd *cobra.Command, args []string) []string) {
	// It fails only for a flag that the command does not have, or has twice.
	if err := cmd.RegisterFlagCompletionFunc(flag, completion(list)); err != nil {
		panic(err)
	}
}

// environments are those of the mesh in the folder of a command.
func (f *intentFlags) environments(a *app, dir func(args []string) string) func(*cobra.Command, []string) []string {
	return func(cmd *cobra.Command, args []string) []string {
		out, _ := peek(cmd, f, a, dir(args), func(ctx context.Context, c *compile.Compiler, fsys fs.FS, _ time.Time) ([]string, error) {
			return c.Environments(ctx, fsys)
		})
		return out
	}
}

// environmentsOf are those of a trust policy.
func environmentsOf(trust *string) func(*cobra.Command, []string) []string {
	return func(*cobra.Command, []string) []string {
		t, _ := approval.LoadTrust(*trust)
		return slices.Sorted(maps.Keys(t.Environments))
	}
}

// commitsIn are the names of commits in the repository at or above a folder. The tags of
// approvals are no names for people.
func commitsIn(dir func(args []string) string) func(*cobra.Command, []string) []string {
	return func(_ *cobra.Command, args []string) []string {
		names, _ := gitrepo.Names(dir(args), "meshc/") // without a repository there are none
		return append(names, "HEAD")
	}
}

// commits are the names of commits in the repository of a command, as an argument.
func (f *approvalFlags) commits() cobra.CompletionFunc {
	list := commitsIn(func([]string) string { return f.repo })
	return completion(func(cmd *cobra.Command, args []string) []string {
		if len(args) > 0 {
			return nil
		}
		return list(cmd, args)
	})
}

// parties are the services and gateways of the mesh that a command reads; more is what the
// command takes beside them.
func (f *intentFlags) parties(a *app, more ...string) func(*cobra.Command, []string) []string {
	return func(cmd *cobra.Command, args []string) []string {
		p := f.program(cmd, a, dirArg(args))
		if p == nil {
			return nil
		}
		return append(p.Parties(), more...)
	}
}

// classes are the classes of proxies of the mesh that a command reads.
func (f *intentFlags) classes(a *app) func(*cobra.Command, []string) []string {
	return func(cmd *cobra.Command, args []string) []string {
		p := f.program(cmd, a, dirArg(args))
		if p == nil {
			return nil
		}
		return classesOf(p)
	}
}

// program is the mesh in a folder, or nil if it is not whole. A line that names no
// environment yet may do so later: it is told of one of them.
func (f *intentFlags) program(cmd *cobra.Command, a *app, dir string) *compiler.Program {
	p, _ := peek(cmd, f, a, dir, func(ctx context.Context, c *compile.Compiler, fsys fs.FS, at time.Time) (*compiler.Program, error) {
		env := f.env
		if env == "" {
			all, err := c.Environments(ctx, fsys)
			if err != nil || len(all) == 0 {
				return nil, err
			}
			env = all[0]
		}
		p, _, err := c.Load(ctx, fsys, compiler.Options{Environment: env, At: at})
		return p, err
	})
	return p
}

// peek looks into the intent of a folder, no longer than a shell may wait.
func peek[T any](cmd *cobra.Command, f *intentFlags, a *app, dir string, look func(context.Context, *compile.Compiler, fs.FS, time.Time) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completing)
	defer cancel()
	fsys, at, err := f.open(a, dir)
	if err != nil {
		var none T
		return none, err
	}
	return bounded(ctx, &f.bounds, func(ctx context.Context, c *compile.Compiler) (T, error) { return look(ctx, c, fsys, at) })
}

// folderOr completes a first argument that is a folder, or one of the words of a list.
func folderOr(list func(cmd *cobra.Command, args []string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if out, how := completion(list)(cmd, args, typed); len(out) > 0 {
			return out, how
		}
		return folder(cmd, args, typed)
	}
}

// folder completes DIR, the one argument of most commands.
func folder(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// folderCodeOrWord completes DIR, or a problem's code or a word of intent, by its whole name or its last
// part, once somebody began to type one.
func folderCodeOrWord(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if typed == "" {
		return folder(cmd, args, typed)
	}
	return folderOr(func(*cobra.Command, []string) []string {
		var out []string
		for _, e := range diag.Entries() {
			out = append(out, string(e.Code))
		}
		for _, w := range reference.Words(nil, nil) {
			out = append(out, w.Word, w.Word[strings.LastIndexByte(w.Word, '.')+1:])
		}
		slices.Sort(out)
		return slices.Compact(out)
	})(cmd, args, typed)
}
