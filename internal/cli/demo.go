package cli

import (
	"github.com/spf13/cobra"

	"meshc.dev/meshc/internal/demo"
	"meshc.dev/meshc/internal/diag"
)

func (a *app) demoCmd() *cobra.Command {
	o := demo.Options{Out: a.out, Color: a.color}
	cmd := &cobra.Command{
		Use: "demo", Short: "Tell the whole story with real parts: Bookinfo, Git, Envoys", Args: takes(0, 0),
		Long: `Run Bookinfo behind real Envoys on this machine, with a Git repository of signed
commits and a server that serves only what was approved. Each step prints its commands
and what was measured. It ends by itself and leaves nothing behind; so does Ctrl-C.`,
		Example: "  meshc demo\n  meshc demo --keep",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := a.supervised(cmd.Context())
			defer stop()
			return demo.Run(ctx, o)
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&o.Keep, "keep", false, "leave everything running until Ctrl-C, and print where to look")
	fl.BoolVar(&o.Fast, "fast", false, "count over fewer requests")
	fl.StringVar(&o.Envoy, "envoy-path", "", "use this Envoy (default: on PATH, in the cache, or fetched)")
	fl.StringVar(&o.Agent, "agent-path", "", "use this meshc-agent (default: beside meshc, on PATH, or built)")
	cmd.AddCommand(demoSignCmd())
	return cmd
}

// demoSignCmd is what Git calls in the demo on a machine without ssh-keygen, with
// ssh-keygen's flags.
func demoSignCmd() *cobra.Command {
	var action, namespace, key string
	cmd := &cobra.Command{
		Use: "sign", Hidden: true, Args: takes(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if action != "sign" {
				return fail(diag.ExitFailure, "-Y %q is not done here; install ssh-keygen", action)
			}
			return demo.SignFile(namespace, key, args[0])
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&action, "action", "Y", "", "")
	fl.StringVarP(&namespace, "namespace", "n", "git", "")
	fl.StringVarP(&key, "file", "f", "", "")
	return cmd
}
