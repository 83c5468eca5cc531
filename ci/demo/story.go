package main

import (
	"context"
	"fmt"
	"time"

	"meshc.dev/meshc/internal/demo/narrate"
)

// stepLimit ends a step that hangs.
const stepLimit = 3 * time.Minute

type step struct {
	title string
	run   func(context.Context, *world) (measured string, err error)
}

func story() []step {
	return []step{
		{"A signed commit becomes a release, which CI signs", firstRelease},
		{"The control plane follows Git", controlPlane},
		{"Flux applies what Git approved, through the webhook", follow},
		{"Pods got their sidecar from the webhook", sidecars},
		{"Visitors come in by the gateway", visitors},
		{"A pull request: what would change?", pullRequest},
		{"Merged: one visitor in ten sees the canary", canary},
		{"Testers see the new version by a header", testers},
		{"Who has no grant gets 403", noGrant},
		{"A pod without identity gets nothing", stranger},
		{"An unsigned commit changes nothing", unsigned},
		{"A commit by the wrong signer changes nothing, until the right one approves", wrongSigner},
		{"Mistakes end in the pull request", mistakes},
		{"A hand edit is refused, at its line of intent", handEdit},
		{"What Git has and nobody approved, Flux may not apply", badManifests},
		{"One of two servers is killed; the other serves what is approved meanwhile", restart},
		{"All pods are replaced, under load", roll},
		{"Back to where we were: a signed rollback", rollback},
	}
}

func run(ctx context.Context, o options, out *narrate.Narrator) error {
	began := time.Now()
	out.Say("meshc demo on Kubernetes: a real API server, real Flux, pods as network namespaces, on this machine only.")
	w, err := open(ctx, o, out)
	if err != nil {
		return err
	}
	defer w.close()
	out.Say("The cluster was ready after %v. Everything is in %s; commands are run there.", time.Since(began).Round(time.Millisecond), w.dir)
	steps := story()
	for i, s := range steps {
		out.Title(i+1, len(steps), s.title)
		bounded, cancel := context.WithTimeout(ctx, stepLimit)
		measured, err := s.run(bounded, w)
		cancel()
		if measured != "" {
			out.Measured(measured)
		}
		if err != nil {
			if ctx.Err() != nil {
				out.Say("Interrupted; stopping what was started.")
				return ctx.Err()
			}
			out.Failed(err)
			out.Logs(map[string]string{"server-a": w.tail("server-a"), "server-b": w.tail("server-b"), "webhook": w.tail("webhook"), "Flux": w.flux.Logs(6), "the node": w.node.Logs(6)})
			if o.keep {
				w.wait(ctx)
			}
			return fmt.Errorf("step %d (%s): %w", i+1, s.title, err)
		}
	}
	out.Say("All %d steps held, in %v.", len(steps), time.Since(began).Round(time.Second))
	if o.keep {
		w.wait(ctx)
	}
	return nil
}

// wait keeps everything running until ctx ends.
func (w *world) wait(ctx context.Context) {
	w.out.Say("\nStill running, until Ctrl-C:")
	w.out.Say("  export KUBECONFIG=%s PATH=%s:$PATH; cd %s", w.cluster.Kubeconfig, w.cluster.Programs, w.dir)
	w.out.Say("  kubectl get pods -A; kubectl -n flux-system get gitrepositories,kustomizations")
	w.out.Say("  kubectl -n bookinfo edit service reviews   # refused")
	w.out.Say("  %s status --state server-a", w.meshc)
	w.out.Say("  mesh/ is the repository, with a key for each of alice, carol and rita in keys/; *.log are the logs")
	<-ctx.Done()
}
