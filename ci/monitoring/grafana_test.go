package monitoring

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	board "github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
)

// TestGrafanaKnowsTheDashboards: by Grafana's own schema of dashboards, of the kinds of panels, and of
// what is asked of a Prometheus, no field is unknown, none is missing, and none has a value that is
// none. Grafana itself does not run here.
func TestGrafanaKnowsTheDashboards(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	uids := map[string]bool{}
	for _, d := range dashboards(t) {
		text, err := os.ReadFile(filepath.Join(files, "dashboards", d.name))
		if err != nil {
			t.Fatal(err)
		}
		var as board.Dashboard //nolint:staticcheck // the form that Grafana takes as a file; the newer one is an object of its API
		// What it returns is never nil, but may be no error.
		var wrong cog.BuildErrors
		if err := as.UnmarshalJSONStrict(text); err != nil && (!errors.As(err, &wrong) || len(wrong) > 0) {
			t.Errorf("%s: %v", d.name, err)
			continue
		}
		if err := as.Validate(); err != nil {
			t.Errorf("%s: %v", d.name, err)
		}
		if as.Uid == nil || uids[*as.Uid] {
			t.Errorf("%s has no identity of its own", d.name)
			continue
		}
		uids[*as.Uid] = true
		ids := map[uint32]bool{}
		for _, p := range as.Panels {
			if p.Panel == nil {
				continue // a row
			}
			if p.Panel.Id == nil || ids[*p.Panel.Id] {
				t.Errorf("%s: %v has no identity of its own", d.name, p.Panel.Title)
			}
			ids[*p.Panel.Id] = true
			for _, q := range p.Panel.Targets {
				if _, ok := q.(prometheus.Dataquery); !ok {
					t.Errorf("%s: %s asks no Prometheus: %T", d.name, *p.Panel.Title, q)
				}
			}
		}
	}
}
