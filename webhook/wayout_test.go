package webhook

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kubeapi"
)

// Rights are the way out for who is refused; an API server that is away wants none.
func TestTheWayOutFitsTheAnswer(t *testing.T) {
	away, forbidden := errors.New("connection refused"), apierrors.NewForbidden(schema.GroupResource{Resource: "leases"}, "x", nil)
	explained := func(err error) error { return diag.List{kubeapi.Explain(err, "get", "leases", "")}.Err() }
	for name, c := range map[string]struct {
		err    error
		rights bool
	}{
		"away":                {away, false},
		"away, explained":     {explained(away), false},
		"refused":             {fmt.Errorf("configuration: %w", forbidden), true},
		"refused, explained":  {explained(forbidden), true},
		"one of two, refused": {errors.Join(away, forbidden), true},
	} {
		if got := wayOut(c.err, "those on leases"); strings.Contains(got, "those on leases") != c.rights {
			t.Errorf("%s: %s", name, got)
		}
	}
}
