package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"meshc.dev/meshc/internal/bookinfo"
	"meshc.dev/meshc/internal/demo/people"
)

// Step is a part of the story. Run does it and returns what was measured, a line
// each; an error means that it did not hold.
type Step struct {
	Title string
	Run   func(ctx context.Context, w *World) (evidence string, err error)
}

func story() []Step {
	return []Step{
		{"A first release, signed, goes live", firstRelease},
		{"A pull request: what would change?", pullRequest},
		{"Merged: one visitor in ten sees the canary", canary},
		{"Testers see the new version by a header", testers},
		{"Who has no grant gets 403", noGrant},
		{"An unsigned commit changes nothing", unsigned},
		{"A commit by the wrong signer changes nothing, until the right one approves", wrongSigner},
		{"Mistakes end in the pull request", mistakes},
		{"The server is killed and comes back, under load", restart},
		{"Back to where we were: a signed rollback", rollback},
	}
}

// page is the request that stands for a visitor.
func (w *World) page(headers map[string]string) Request {
	return Request{URL: "http://" + w.port(21080) + "/api/v1/products/0", Host: "bookinfo.example", Headers: headers}
}

// many is how many requests a share is counted over.
func (w *World) many() int {
	if w.opts.Fast {
		return 400
	}
	return 1000
}

// calm returns an error if the visitors in the background saw any failure since before.
func (w *World) calm(before Counts) (string, error) {
	c := w.load.Counts().Since(before)
	text := fmt.Sprintf("visitors meanwhile: %d requests, %d failed", c.Total, c.Failed())
	if c.Failed() > 0 {
		return text, fmt.Errorf("visitors noticed: %s; first: %s", c, c.FirstBad)
	}
	return text, nil
}

func firstRelease(ctx context.Context, w *World) (string, error) {
	if err := w.setUpRepository(ctx); err != nil {
		return "", err
	}
	if err := w.startApps(); err != nil {
		return "", err
	}
	gateway := w.port(21080)
	if !closed(gateway) {
		return "", fmt.Errorf("something already listens on %s", gateway)
	}
	if err := w.startServer(ctx); err != nil {
		return "", err
	}
	if err := w.startAgents(ctx); err != nil {
		return "", err
	}
	if _, err := w.meshcWant(ctx, 0, -1, "wait", w.first, "--state", "server"); err != nil {
		return "", err
	}
	took, s, err := w.served(ctx, w.first)
	if err != nil {
		return "", err
	}
	if _, err := w.eventually(ctx, "the gateway answers", func() (bool, error) {
		c := Ask(ctx, w.page(nil), 1)
		return c.Failed() == 0, errors.New(c.String())
	}); err != nil {
		return "", err
	}
	c := Ask(ctx, w.page(nil), 100)
	if c.Failed() > 0 || c.Version["v1"] != 100 {
		return "", fmt.Errorf("expected 100 answers with reviews v1: %s", c)
	}
	w.load = StartLoad(w.page(nil), 4, 40)
	w.onClose(func() { w.load.Stop() })
	return fmt.Sprintf("before: nobody listens on the gateway's port %s\nrelease %.12s of commit %.12s runs on %d Envoys (waited %v)\n%s\nfrom here on, visitors ask 40 times a second in the background",
		gateway, s.Release, w.first, s.upToDate(), took.Round(time.Millisecond), c), nil
}

// setUpRepository makes the first commit: the example with all traffic on v1.
func (w *World) setUpRepository(ctx context.Context) (err error) {
	var public map[string]string
	signer, err := people.FindSigner(w.tools.meshc, w.dir)
	if err != nil {
		return err
	}
	if w.repo, public, err = people.New(ctx, w.git, signer, w.dir); err != nil {
		return err
	}
	if w.shift, err = writeIntent(w.repo.Work); err != nil {
		return err
	}
	if err := w.repo.Edit("bookinfo/reviews.cue", "to: {v1: 90, v3: 10}", "to: v1: 100"); err != nil {
		return err
	}
	w.out.Tell("Carol (platform) signs the first commit: the intent of Bookinfo, all on reviews v1.")
	if w.first, err = w.commit(ctx, people.Carol, true, "bookinfo: first release"); err != nil {
		return err
	}
	if err := w.push(ctx, "main"); err != nil {
		return err
	}
	if err := os.WriteFile(w.path("trust.yaml"), []byte(people.TrustPolicy(w.first, "local", public)), 0o600); err != nil {
		return fmt.Errorf("writing the trust policy: %w", err)
	}
	w.out.Tell("The operator's trust.yaml says who may approve what: carol everything, alice bookinfo/, rita reports/.")
	_, err = w.meshcWant(ctx, 0, 3, "trust", "check", "trust.yaml")
	return err
}

// commit commits what has been edited and tells about it.
func (w *World) commit(ctx context.Context, who string, sign bool, message string) (string, error) {
	flag := " -S"
	if !sign {
		flag = ""
	}
	hash, err := w.repo.Commit(ctx, who, sign, message)
	if err != nil {
		return "", err
	}
	w.out.Command(fmt.Sprintf("git commit%s -m %q   # as %s: %.12s", flag, message, who, hash))
	return hash, nil
}

func (w *World) push(ctx context.Context, refs ...string) error {
	w.out.Command("git push origin " + strings.Join(refs, " "))
	_, err := w.repo.Run(ctx, append([]string{"push", "--quiet", "origin"}, refs...)...)
	return err
}

func (w *World) checkout(ctx context.Context, args ...string) error {
	w.out.Command("git checkout " + strings.Join(args, " "))
	_, err := w.repo.Run(ctx, append([]string{"checkout", "--quiet"}, args...)...)
	return err
}

func pullRequest(ctx context.Context, w *World) (string, error) {
	w.out.Tell("Alice (team-bookinfo) wants one request in ten on reviews v3. Her branch:")
	if err := w.checkout(ctx, "-b", "canary"); err != nil {
		return "", err
	}
	if err := w.repo.Edit("bookinfo/reviews.cue", "to: v1: 100", "to: {v1: 90, v3: 10}"); err != nil {
		return "", err
	}
	diff, err := w.repo.Run(ctx, "diff", "--unified=0", "--no-color")
	if err != nil {
		return "", err
	}
	w.out.Output(onlyChanges(diff), 0)
	if w.canary, err = w.commit(ctx, people.Alice, true, "reviews: canary of 10 % on v3"); err != nil {
		return "", err
	}
	w.out.Tell("What the reviewers get to see:")
	r, err := w.meshcWant(ctx, 2, 40, "plan", "mesh", "--env", "local", "--base", "main", "--detailed-exitcode")
	if err != nil {
		return "", err
	}
	if !strings.Contains(r.stdout, "reviews") {
		return "", errors.New("the plan does not mention reviews")
	}
	c := Ask(ctx, w.page(nil), 100)
	if c.Failed() > 0 || c.Version["v1"] != 100 {
		return "", fmt.Errorf("a branch took effect: %s", c)
	}
	return "the plan is only a plan; visitors still get: " + c.String(), nil
}

// onlyChanges leaves out a diff's headers.
func onlyChanges(diff string) string {
	var out []string
	for line := range strings.Lines(diff) {
		if line = strings.TrimRight(line, "\n"); (strings.HasPrefix(line, "+") || strings.HasPrefix(line, "-")) && !strings.HasPrefix(line, "+++") && !strings.HasPrefix(line, "---") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

func canary(ctx context.Context, w *World) (string, error) {
	before := w.load.Counts()
	if err := w.checkout(ctx, "main"); err != nil {
		return "", err
	}
	w.out.Command("git merge --ff-only canary")
	if _, err := w.repo.Run(ctx, "merge", "--quiet", "--ff-only", "canary"); err != nil {
		return "", err
	}
	if err := w.push(ctx, "main"); err != nil {
		return "", err
	}
	if _, err := w.meshcWant(ctx, 0, -1, "wait", w.canary, "--state", "server"); err != nil {
		return "", err
	}
	took, s, err := w.served(ctx, w.canary)
	if err != nil {
		return "", err
	}
	c := Ask(ctx, w.page(nil), w.many())
	// Four standard deviations: a correct split fails one time in fifteen thousand.
	if share, bound := c.Share("v3"), 400*deviation(0.1, w.many()); c.Failed() > 0 || share < 10-bound || share > 10+bound || c.Version["v2"] > 0 {
		return c.String(), fmt.Errorf("expected 10 ± %.1f %% on v3: %s", bound, c)
	}
	calm, err := w.calm(before)
	return fmt.Sprintf("%d of %d Envoys have confirmed %.12s (last look after %v)\n%s\n%s", s.upToDate(), len(identities()), w.canary, took.Round(time.Millisecond), c, calm), err
}

func testers(ctx context.Context, w *World) (string, error) {
	w.out.Tell("The header passes through the gateway and productpage; the route is reviews' own.")
	if _, err := w.meshcWant(ctx, 0, 12, "explain", "mesh", "--env", "local", "--from", "bookinfo/productpage", "--to", "bookinfo/reviews", "--path", "/reviews/0", "-H", "end-user=jason"); err != nil {
		return "", err
	}
	c := Ask(ctx, w.page(map[string]string{"end-user": "jason"}), 200)
	if c.Failed() > 0 || c.Version["v2"] != 200 {
		return "", fmt.Errorf("expected 200 answers with reviews v2: %s", c)
	}
	other := Ask(ctx, w.page(map[string]string{"end-user": "jasonx"}), 100)
	if other.Failed() > 0 || other.Version["v2"] > 0 {
		return "", fmt.Errorf("expected no v2 for others: %s", other)
	}
	return fmt.Sprintf("end-user: jason   %s\nend-user: jasonx  %s", c, other), nil
}

// report asks the report application what became of its question to ratings.
func (w *World) report(ctx context.Context) (r bookinfo.Report, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.port(21241)+"/report", nil)
	if err != nil {
		return r, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return r, fmt.Errorf("asking the report: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return r, fmt.Errorf("asking the report: %w", err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("reading the report: %w", err)
	}
	return r, nil
}

func noGrant(ctx context.Context, w *World) (string, error) {
	w.out.Tell("The report of another team knows the way to ratings and has an identity, but ratings grants it nothing.")
	r, err := w.report(ctx)
	if err != nil {
		return "", err
	}
	if r.Status != http.StatusForbidden {
		return "", fmt.Errorf("expected 403 for the report, got %d %s", r.Status, r.Error)
	}
	ok := Ask(ctx, w.page(map[string]string{"end-user": "jason"}), 20)
	if ok.Failed() > 0 {
		return "", fmt.Errorf("reviews may ask ratings: %s", ok)
	}
	plain := Ask(ctx, Request{URL: "http://" + w.port(21131) + "/ratings/0"}, 1)
	if len(plain.Status) > 0 {
		return "", fmt.Errorf("the proxy of ratings answered someone without a certificate: %s", plain)
	}
	return fmt.Sprintf("report → ratings: status %d (%s)\nreviews v2 → ratings, for the page: %s\nplain HTTP to the port of ratings' proxy, without a certificate: %s",
		r.Status, r.Error, ok, plain), nil
}

func unsigned(ctx context.Context, w *World) (string, error) {
	before := w.load.Counts()
	w.out.Tell("Somebody pushes straight to main, without a signature: all traffic to v3.")
	if err := w.repo.Edit("bookinfo/reviews.cue", "to: {v1: 90, v3: 10}", "to: v3: 100"); err != nil {
		return "", err
	}
	bad, err := w.commit(ctx, people.Nobody, false, "reviews: all on v3")
	if err != nil {
		return "", err
	}
	if err := w.push(ctx, "main"); err != nil {
		return "", err
	}
	if err := w.refused(ctx, bad); err != nil {
		return "", err
	}
	if _, err := w.meshcWant(ctx, 4, 8, "verify", "--repo", "mesh", "--trust", "trust.yaml"); err != nil {
		return "", err
	}
	kept, err := w.stillServes(ctx, w.canary)
	if err != nil {
		return "", err
	}
	w.out.Tell("The way out: what was never approved may be rewound.")
	w.out.Command("git reset --hard HEAD~1")
	if _, err := w.repo.Run(ctx, "reset", "--quiet", "--hard", "HEAD~1"); err != nil {
		return "", err
	}
	if err := w.push(ctx, "--force", "main"); err != nil {
		return "", err
	}
	if _, err := w.meshcWant(ctx, 0, 4, "verify", "--repo", "mesh", "--trust", "trust.yaml"); err != nil {
		return "", err
	}
	calm, err := w.calm(before)
	return kept + "\n" + calm, err
}

// stillServes checks that a commit is what the server serves, and with what shares.
func (w *World) stillServes(ctx context.Context, commit string) (string, error) {
	s, err := w.status(ctx)
	if err != nil {
		return "", err
	}
	if s.Commit != commit || s.upToDate() != len(identities()) {
		return "", fmt.Errorf("the server has %.12s instead of %.12s, %d proxies up to date", s.Commit, commit, s.upToDate())
	}
	c := Ask(ctx, w.page(nil), 200)
	if c.Failed() > 0 || c.Version["v1"] < 100 {
		return "", fmt.Errorf("expected mostly v1: %s", c)
	}
	return fmt.Sprintf("still served: %.12s, on %d Envoys; %s", s.Commit, s.upToDate(), c), nil
}

func wrongSigner(ctx context.Context, w *World) (string, error) {
	before := w.load.Counts()
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
	if err := w.push(ctx, "main"); err != nil {
		return "", err
	}
	if err := w.refused(ctx, commit); err != nil {
		return "", err
	}
	if _, err := w.meshcWant(ctx, 4, 8, "verify", "--repo", "mesh", "--trust", "trust.yaml"); err != nil {
		return "", err
	}
	r, err := w.report(ctx)
	if err != nil {
		return "", err
	}
	if r.Status != http.StatusForbidden {
		return "", fmt.Errorf("a refused commit took effect: the report got %d", r.Status)
	}
	w.out.Tell("The way out: Alice reads the plan and approves the commit as it is.")
	if _, err := w.meshcWant(ctx, 2, 30, "plan", "mesh", "--env", "local", "--base", "HEAD~1", "--detailed-exitcode"); err != nil {
		return "", err
	}
	a, err := w.meshcWant(ctx, 0, 4, "approve", commit, "--repo", "mesh", "--trust", "trust.yaml", "--key", filepath.Join("keys", people.Alice), "--user-name", people.Alice, "--user-email", people.Alice+"@bookinfo.example")
	if err != nil {
		return "", err
	}
	tag, ok := tagOf(a.stdout)
	if !ok {
		return "", errors.New("meshc approve printed no tag")
	}
	if err := w.push(ctx, tag); err != nil {
		return "", err
	}
	if _, _, err := w.served(ctx, commit); err != nil {
		return "", err
	}
	after, err := w.report(ctx)
	if err != nil {
		return "", err
	}
	if after.Status != http.StatusOK {
		return "", fmt.Errorf("the approved grant has no effect: the report got %d %s", after.Status, after.Error)
	}
	calm, err := w.calm(before)
	return fmt.Sprintf("report → ratings while refused: status %d; after the approval: status %d (%d stars)\n%s", r.Status, after.Status, after.Stars, calm), err
}

// tagOf finds the ref in "next: git push origin refs/tags/…".
func tagOf(text string) (string, bool) {
	for word := range strings.FieldsSeq(text) {
		if strings.HasPrefix(word, "refs/tags/") {
			return word, true
		}
	}
	return "", false
}

func mistakes(ctx context.Context, w *World) (string, error) {
	before := w.load.Counts()
	w.out.Tell("A typo, as the pull request's check shows it at the line:")
	if err := w.repo.Edit("bookinfo/reviews.cue", "to: {v1: 90, v3: 10}", "to: {v1: 90, v4: 10}"); err != nil {
		return "", err
	}
	typo, err := w.meshcWant(ctx, 3, 6, "vet", "mesh", "--env", "local", "--output", "github")
	if err != nil {
		return "", err
	}
	if _, err := w.repo.Run(ctx, "checkout", "--quiet", "--", "."); err != nil {
		return "", err
	}
	w.out.Tell("Valid, but against policy: ratings for anyone at all.")
	if err := w.repo.Edit("bookinfo/bookinfo.cue", "grant: stars: {from: ", "grant: all: anyone: true\n\tgrant: stars: {from: "); err != nil {
		return "", err
	}
	denied, err := w.meshcWant(ctx, 3, 8, "vet", "mesh", "--env", "local", "--output", "github")
	if err != nil {
		return "", err
	}
	if _, err := w.repo.Run(ctx, "checkout", "--quiet", "--", "."); err != nil {
		return "", err
	}
	if !strings.Contains(typo.stdout, "MESH0204") || !strings.Contains(denied.stdout, "MESH04") {
		return "", errors.New("the checks failed for another reason than the planted one")
	}
	calm, err := w.calm(before)
	return "both end with exit code 3, which fails the check; nothing was pushed\n" + calm, err
}

func restart(ctx context.Context, w *World) (string, error) {
	before := w.load.Counts()
	was, err := w.status(ctx)
	if err != nil {
		return "", err
	}
	burst := StartLoad(w.page(nil), 4, 100)
	defer burst.Stop()
	if err := w.killServer(); err != nil {
		return "", err
	}
	down := time.Now()
	for time.Since(down) < 2*time.Second {
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	without := burst.Counts()
	w.out.Tell("Two seconds without a server: the Envoys go on with what they have.")
	if err := w.startServer(ctx); err != nil {
		return "", err
	}
	took, s, err := w.served(ctx, was.Commit)
	if err != nil {
		return "", err
	}
	all := burst.Stop()
	if all.Failed() > 0 {
		return all.String(), fmt.Errorf("visitors noticed: %s; first: %s", all, all.FirstBad)
	}
	calm, err := w.calm(before)
	return fmt.Sprintf("while the server was away: %d requests, %d failed\n%d Envoys are back on %.12s, %v after the server answered\nfrom the kill until now: %s\n%s",
		without.Total, without.Failed(), s.upToDate(), s.Commit, took.Round(time.Millisecond), all, calm), err
}

func rollback(ctx context.Context, w *World) (string, error) {
	before := w.load.Counts()
	w.out.Tell("Carol goes back to the first release. The record is signed and says why; main is not rewritten.")
	r, err := w.meshcWant(ctx, 0, 4, "rollback", w.first, "--repo", "mesh", "--trust", "trust.yaml", "--reason", "red stars upset the readers",
		"--key", filepath.Join("keys", people.Carol), "--user-name", people.Carol, "--user-email", people.Carol+"@bookinfo.example")
	if err != nil {
		return "", err
	}
	tag, ok := tagOf(r.stdout)
	if !ok {
		return "", errors.New("meshc rollback printed no tag")
	}
	if err := w.push(ctx, tag); err != nil {
		return "", err
	}
	took, s, err := w.served(ctx, w.first)
	if err != nil {
		return "", err
	}
	c := Ask(ctx, w.page(nil), 200)
	if c.Failed() > 0 || c.Version["v1"] != 200 {
		return "", fmt.Errorf("expected 200 answers with reviews v1: %s", c)
	}
	rep, err := w.report(ctx)
	if err != nil {
		return "", err
	}
	if rep.Status != http.StatusForbidden {
		return "", fmt.Errorf("the report's access outlived the rollback: status %d", rep.Status)
	}
	calm, err := w.calm(before)
	total := w.load.Counts()
	return fmt.Sprintf("%d Envoys run %.12s again, after %v\n%s\nreport → ratings: status %d again\n%s\nthe whole story: %s", s.upToDate(), s.Commit, took.Round(time.Millisecond), c, rep.Status, calm, total), err
}
