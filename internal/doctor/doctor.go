// Package doctor looks at a machine, a cluster and an installation of meshc in it, and
// says what is wrong and how to mend it.
//
// In: a way to the cluster, the namespace of the installation, a clock. Out: a Report, in
// which each check has said something: that it is well, what is wrong, or why it could not
// be asked.
//
// What always holds: nothing is changed anywhere (what is tried is tried as a dry run), and
// no check takes longer than its limit, whatever does not answer.
package doctor

import (
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kubeapi"
)

// Status is what a check found.
type Status string

// The verdicts. Only Failed is one.
const (
	OK      Status = "ok"
	Warning Status = "warning" // it works, and will not for long or for everybody
	Failed  Status = "failed"
	Skipped Status = "skipped" // it could not be asked, because of what failed before or by who asks
)

// Result is what one check found.
type Result struct {
	Section string `json:"section"`
	Check   string `json:"check"` // its name, which stays the same
	Title   string `json:"title"`
	Status  Status `json:"status"`
	Detail  string `json:"detail,omitempty"`
	Fix     string `json:"fix,omitempty"`
}

// Report is all results in order.
type Report struct {
	Results []Result `json:"results"`
}

// Failed says whether a check failed.
func (r Report) Failed() bool {
	for _, one := range r.Results {
		if one.Status == Failed {
			return true
		}
	}
	return false
}

// Config is what is looked at.
type Config struct {
	// Connect leads to the cluster; nil looks at the machine alone.
	Connect func() (*kubeapi.Cluster, error)
	// Namespace is that of the installation.
	Namespace string
	Now       func() time.Time
	// Limit bounds each check, 5 seconds if zero.
	Limit time.Duration
}

// found is what a check says. The zero found is well.
type found struct {
	status      Status
	detail, fix string
}

func well(format string, args ...any) found { return found{OK, fmt.Sprintf(format, args...), ""} }
func bad(detail, fix string) found          { return found{Failed, detail, fix} }
func warn(detail, fix string) found         { return found{Warning, detail, fix} }
func skip(format string, args ...any) found { return found{Skipped, fmt.Sprintf(format, args...), ""} }

// problem is an error as a check says it.
func problem(d diag.Diagnostic) found { return bad(string(d.Code)+": "+d.Text, d.Fix) }

// check is one look.
type check struct {
	name, title string
	look        func(context.Context) found
	// gate says that nothing after it in its section, nor in those that follow for the
	// same thing, can be asked if it fails.
	gate bool
}

// examination is one run.
type examination struct {
	Config
	tell    func(Result)
	report  Report
	closed  string // why the cluster is not asked any more
	cluster *kubeapi.Cluster
	client  kubernetes.Interface
	rest    *rest.Config
	// What the installation follows, and the Secret by which it may: "" if none was seen.
	repository, secret string
}

// Examine makes all checks in their order and tells each result as it comes. It ends early
// with ctx.
func Examine(ctx context.Context, c Config, tell func(Result)) (Report, error) {
	if c.Limit == 0 {
		c.Limit = 5 * time.Second
	}
	e := &examination{Config: c, tell: tell, report: Report{}}
	e.run(ctx, "machine", e.machine())
	if c.Connect != nil {
		e.run(ctx, "cluster", e.reach())
		e.run(ctx, "installation", e.installation())
		e.run(ctx, "mesh", e.mesh())
	}
	return e.report, ctx.Err()
}

func (e *examination) run(ctx context.Context, section string, checks []check) {
	for _, c := range checks {
		if ctx.Err() != nil {
			return
		}
		var f found
		if e.closed != "" {
			f = skip("%s", e.closed)
		} else {
			f = e.bounded(ctx, c.look)
		}
		if f.status == "" {
			f.status = OK
		}
		if c.gate && f.status == Failed {
			e.closed = fmt.Sprintf("not asked, since %q failed", c.title)
		}
		if ctx.Err() != nil {
			return
		}
		r := Result{Section: section, Check: c.name, Title: c.title, Status: f.status, Detail: f.detail, Fix: f.fix}
		e.report.Results = append(e.report.Results, r)
		e.tell(r)
	}
}

// bounded looks no longer than the limit, even at what knows no end.
func (e *examination) bounded(ctx context.Context, look func(context.Context) found) found {
	limited, cancel := context.WithTimeout(kubeapi.Quiet(ctx), e.Limit)
	defer cancel()
	done := make(chan found, 1)
	go func() { done <- look(limited) }()
	select {
	case f := <-done:
		return f
	case <-limited.Done():
	}
	const grace = 200 * time.Millisecond // it has the same deadline, and knows more
	select {
	case f := <-done:
		return f
	case <-time.After(grace):
		return bad(fmt.Sprintf("there was no answer within %v", e.Limit), "see whether what is asked hangs, and look again")
	}
}
