package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"meshc.dev/meshc/internal/demo/people"
	"meshc.dev/meshc/internal/kubetest/flux"
)

// refused waits until those that follow the repository have said in their logs that they refuse a commit.
func (w *world) refused(ctx context.Context, commit string) error {
	for _, program := range []string{"server-a", "webhook"} {
		if _, err := w.until(ctx, fmt.Sprintf("%s refuses %.12s", program, commit), func() (bool, error) {
			b, err := os.ReadFile(w.path(program + ".log"))
			if err != nil {
				return false, err
			}
			for line := range strings.Lines(string(b)) {
				var entry struct{ Msg, Commit string }
				if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "commit refused" && entry.Commit == commit {
					return true, nil
				}
			}
			return false, nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func unsigned(ctx context.Context, w *world) (string, error) {
	before, err := w.visitors(ctx, "/counts")
	if err != nil {
		return "", err
	}
	w.out.Tell("Somebody pushes straight to main, without a signature: all traffic to v3.")
	if err := w.repo.Edit("bookinfo/reviews.cue", "to: {v1: 90, v3: 10}", "to: v3: 100"); err != nil {
		return "", err
	}
	bad, err := w.commit(ctx, people.Nobody, false, "reviews: all on v3")
	if err != nil {
		return "", err
	}
	if err := w.push(ctx, w.repo, "main"); err != nil {
		return "", err
	}
	if err := w.refused(ctx, bad); err != nil {
		return "", err
	}
	if _, err := w.tool(ctx, 4, 8, "verify", "--repo", "mesh", "--trust", "trust.yaml"); err != nil {
		return "", err
	}
	if err := unsignedForFlux(ctx, w); err != nil {
		return "", err
	}
	w.out.Tell("The way out: what was never approved may be rewound.")
	if err := w.back(ctx, w.rendered, rendered); err != nil {
		return "", err
	}
	if err := w.back(ctx, w.repo, "main"); err != nil {
		return "", err
	}
	if err := w.live(ctx, w.canary); err != nil {
		return "", err
	}
	c, err := w.come(ctx, 100, "")
	if err == nil && (c.Failed() > 0 || c.Version["v1"] < 50) {
		err = errors.New("an unsigned commit took effect")
	}
	if err != nil {
		return c.String(), err
	}
	calm, err := w.calm(ctx, before)
	return fmt.Sprintf("still served: %.12s; %s\n%s", w.canary, c, calm), err
}

// unsignedForFlux pushes an unsigned commit to the branch that Flux follows.
func unsignedForFlux(ctx context.Context, w *world) error {
	w.out.Tell("… and to the branch that Flux follows:")
	if err := w.rendered.Edit("kubernetes/bookinfo/service-ratings.yaml", "app: ratings\n  type", "app: mallory\n  type"); err != nil {
		return err
	}
	bad, err := w.commitIn(ctx, w.rendered, people.Nobody, false, "ratings: mine")
	if err != nil {
		return err
	}
	if err := w.push(ctx, w.rendered, rendered); err != nil {
		return err
	}
	if err := w.flux.Reconcile(ctx, flux.GitRepository, "mesh"); err != nil {
		return err
	}
	if _, err := w.until(ctx, "Flux refuses", func() (bool, error) {
		s, err := w.flux.State(ctx, flux.GitRepository, "mesh")
		c := s.Condition("SourceVerified")
		return err == nil && c.Status == "False" && strings.Contains(c.Message, bad), errors.Join(err, errors.New(c.Message))
	}); err != nil {
		return err
	}
	_, err = w.kubectl(ctx, 0, 0, "-n", flux.Namespace, "get", "gitrepository", "mesh")
	return err
}

func wrongSigner(ctx context.Context, w *world) (string, error) {
	before, err := w.visitors(ctx, "/counts")
	if err != nil {
		return "", err
	}
	w.out.Tell("Rita (team-reports) grants her own report access to ratings. Her key is known, but bookinfo/ is not hers.")
	if err := w.repo.Edit("bookinfo/bookinfo.cue", `grant: stars: {from: ["reviews"],`, `grant: stars: {from: ["reviews", "reports/report"],`); err != nil {
		return "", err
	}
	if err := w.repo.Edit("bookinfo/tests.cue", "\"reports may not read ratings\": {\n\t\trequest: {from: \"reports/report\", to: \"ratings\", path: \"/ratings/0\"}\n\t\texpect: {allowed: false, status: 403}",
		"\"reports may read ratings\": {\n\t\trequest: {from: \"reports/report\", to: \"ratings\", path: \"/ratings/0\"}\n\t\texpect: allowed: true"); err != nil {
		return "", err
	}
	commit, err := w.commit(ctx, people.Rita, true, "ratings: let the report in")
	if err != nil {
		return "", err
	}
	if err := w.push(ctx, w.repo, "main"); err != nil {
		return "", err
	}
	if err := w.refused(ctx, commit); err != nil {
		return "", err
	}
	if _, err := w.tool(ctx, 4, 8, "verify", "--repo", "mesh", "--trust", "trust.yaml"); err != nil {
		return "", err
	}
	first, err := w.report(ctx)
	if err != nil {
		return "", err
	}
	if first != "403" {
		return "", fmt.Errorf("a refused commit took effect: the report got %q", first)
	}
	w.out.Tell("The way out: Alice reads the plan and approves the commit as it is.")
	if err := w.sign(ctx, people.Alice, "approve", commit); err != nil {
		return "", err
	}
	if err := w.live(ctx, commit); err != nil {
		return "", err
	}
	then, err := w.report(ctx)
	if err != nil {
		return "", err
	}
	if then != "200" {
		return "", fmt.Errorf("the approved grant has no effect: the report got %q", then)
	}
	calm, err := w.calm(ctx, before)
	return fmt.Sprintf("report → ratings while refused: %s; after the approval: %s\n%s", first, then, calm), err
}

// sign runs a command of meshc's that signs a record as somebody, and pushes its tag.
func (w *world) sign(ctx context.Context, who, command, commit string, more ...string) error {
	out, err := w.tool(ctx, 0, 4, append([]string{command, commit, "--repo", "mesh", "--trust", "trust.yaml", "--key", filepath.Join("keys", who),
		"--user-name", who, "--user-email", who + "@bookinfo.example"}, more...)...)
	if err != nil {
		return err
	}
	for word := range strings.FieldsSeq(out) { // next: git push origin refs/tags/…
		if strings.HasPrefix(word, "refs/tags/") {
			return w.push(ctx, w.repo, word)
		}
	}
	return fmt.Errorf("meshc %s printed no tag", command)
}

func mistakes(ctx context.Context, w *world) (string, error) {
	for _, m := range []struct{ tell, file, old, fresh, code string }{
		{"A typo, as the pull request's check shows it at the line:", "bookinfo/reviews.cue", "to: {v1: 90, v3: 10}", "to: {v1: 90, v4: 10}", "MESH0204"},
		{"Valid, but against policy: ratings for anyone at all.", "bookinfo/bookinfo.cue", "grant: stars: {from: ", "grant: all: anyone: true\n\tgrant: stars: {from: ", "MESH04"},
	} {
		w.out.Tell("%s", m.tell)
		if err := w.repo.Edit(m.file, m.old, m.fresh); err != nil {
			return "", err
		}
		out, err := w.tool(ctx, 3, 8, "vet", "mesh", "--env", "kubernetes", "--output", "github")
		if err != nil {
			return "", err
		}
		if !strings.Contains(out, m.code) {
			return "", errors.New("the check failed for another reason than the planted one")
		}
		if _, err := w.repo.Run(ctx, "checkout", "--quiet", "--", "."); err != nil {
			return "", err
		}
	}
	return "both end with exit code 3, which fails the check; nothing was pushed", nil
}

func handEdit(ctx context.Context, w *world) (string, error) {
	out, err := w.kubectl(ctx, 1, 0, "-n", "bookinfo", "patch", "service", "reviews", "--type", "merge", "-p", `{"spec":{"selector":{"app":"mallory"}}}`)
	if err != nil {
		return "", err
	}
	if !strings.Contains(out, "MESH0701") || !strings.Contains(out, "bookinfo/reviews.cue:") {
		return "", fmt.Errorf("it was refused for another reason: %s", out)
	}
	return "the Service is still what the release says", nil
}

// sniffer is a manifest that no policy over objects lets in.
const sniffer = `apiVersion: v1
kind: Pod
metadata: {name: sniffer, namespace: bookinfo}
spec:
  serviceAccountName: ratings
  containers:
  - {name: app, image: bookinfo, securityContext: {capabilities: {add: [NET_ADMIN]}}}
`

func badManifests(ctx context.Context, w *world) (string, error) {
	w.out.Tell("Somebody who has CI's key turns ratings to pods of their own. For Flux all is well; the webhook knows what was approved.")
	if err := w.rendered.Edit("kubernetes/bookinfo/service-ratings.yaml", "app: ratings\n  type", "app: mallory\n  type"); err != nil {
		return "", err
	}
	bad, err := w.commitIn(ctx, w.rendered, people.CI, true, "ratings: mine")
	if err != nil {
		return "", err
	}
	if err := w.push(ctx, w.rendered, rendered); err != nil {
		return "", err
	}
	if err := w.stopped(ctx, "mesh", bad, "MESH0701"); err != nil {
		return "", err
	}
	if err := w.back(ctx, w.rendered, rendered); err != nil {
		return "", err
	}
	good, err := w.rendered.Run(ctx, "rev-parse", "HEAD")
	if err != nil {
		return "", err
	}
	if err := w.applied(ctx, good); err != nil { // what depends on it waits for that
		return "", err
	}
	w.out.Tell("A team brings a pod that may change the rules of its network.")
	if err := os.WriteFile(w.path("apps", "sniffer.yaml"), []byte(sniffer), 0o600); err != nil {
		return "", err
	}
	if bad, err = w.commitIn(ctx, w.apps, people.Alice, true, "ratings: look at packets"); err != nil {
		return "", err
	}
	if err := w.push(ctx, w.apps, "main"); err != nil {
		return "", err
	}
	if err := w.stopped(ctx, "apps", bad, "[pod-net-admin]"); err != nil {
		return "", err
	}
	if err := w.back(ctx, w.apps, "main"); err != nil {
		return "", err
	}
	if err := w.flux.Reconcile(ctx, flux.GitRepository, "apps"); err != nil {
		return "", err
	}
	return "nothing of either commit was applied, and Flux's status says why", nil
}

// stopped waits until Flux could not apply a commit, and checks that it says why in our
// words.
func (w *world) stopped(ctx context.Context, name, commit, why string) error {
	if err := w.flux.Reconcile(ctx, flux.GitRepository, name); err != nil {
		return err
	}
	// The message is that of the moment: each try again has none while it lasts.
	message := ""
	if _, err := w.until(ctx, fmt.Sprintf("Flux cannot apply %.12s", commit), func() (bool, error) {
		s, err := w.flux.State(ctx, flux.Kustomization, name)
		c := s.Condition("Ready")
		message = c.Message
		return err == nil && c.Status == "False" && strings.HasSuffix(s.Tried, commit), errors.Join(err, errors.New(c.Message))
	}); err != nil {
		return err
	}
	w.out.Command(`kubectl -n flux-system get kustomization ` + name + ` -o 'jsonpath={.status.conditions[?(@.type=="Ready")].message}'`)
	w.out.Output(message, 0)
	if !strings.Contains(message, why) {
		return fmt.Errorf("it was refused for another reason: %s", message)
	}
	return nil
}
