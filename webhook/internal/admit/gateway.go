package admit

import (
	"fmt"
	"reflect"
	"slices"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/webhook/internal/drift"
	"meshc.dev/meshc/webhook/internal/inject"
	"meshc.dev/meshc/webhook/internal/review"
)

// templates are what the pods of a gateway's account are made from.
type templates struct {
	// now are those of the release, before those of the last release that had others: until
	// somebody has applied what was approved, pods that end are replaced by their like.
	now, before []drift.Object
}

// After tells a world which one was in force before it, nil for none.
func (w *World) After(last *World) {
	if last == nil {
		return
	}
	for account, was := range last.gateways {
		mine, ok := w.gateways[account]
		if !ok {
			continue
		}
		if mine.before = was.now; reflect.DeepEqual(mine.now, was.now) {
			mine.before = was.before
		}
		w.gateways[account] = mine
	}
}

// gateway is the account of a gateway that a pod runs as, as "namespace/account". The
// account says that it is one, not a label: the account is what the server gives a
// gateway's configuration to, and a pod that has one is nobody's workload.
func (w *World) gateway(q review.Review) (account string, is bool) {
	spec, _ := q.New["spec"].(drift.Object)
	name, _ := spec["serviceAccountName"].(string)
	account = q.Namespace + "/" + name
	_, is = w.gateways[account]
	return account, is
}

// newGateway holds a new pod of a gateway's account against the templates: whoever has
// the account is the gateway.
func (w *World) newGateway(q review.Review, account string) diag.List {
	if err := inject.Apart(q.New); err != nil {
		return diag.List{sidecar(q, err)}
	}
	of := w.gateways[account]
	if len(of.now)+len(of.before) == 0 { // a former account has those before alone
		return diag.List{asGateway(q, fmt.Errorf("it runs as gateway %q, of which the approved release has no Deployment", account))}
	}
	var first []drift.Difference
	for _, template := range slices.Concat(of.now, of.before) {
		ds := drift.Compare("Pod", template, q.New)
		if len(ds) == 0 {
			return nil
		}
		if first == nil {
			first = ds
		}
	}
	return diag.List{asGateway(q, fmt.Errorf("it runs as gateway %q and is not what the approved release says: %s", account, several(first)))}
}

// livingGateway demands that a pod of a gateway stays what it is: its containers, and the
// labels by which it is found. Beside them others may put labels of their own.
func livingGateway(q review.Review) diag.List {
	for _, field := range []string{"containers", "initContainers"} {
		was, _ := q.Old["spec"].(drift.Object)
		is, _ := q.New["spec"].(drift.Object)
		if !reflect.DeepEqual(was[field], is[field]) {
			return diag.List{asGateway(q, fmt.Errorf("%s of a living pod of a gateway are not changed", field))}
		}
	}
	have := labels(q.New)
	for name, value := range labels(q.Old) {
		if have[name] != value {
			return diag.List{asGateway(q, fmt.Errorf("label %q of a living pod of a gateway is not changed", name))}
		}
	}
	if err := inject.Apart(q.New); err != nil {
		return diag.List{sidecar(q, err)}
	}
	return nil
}

func asGateway(q review.Review, err error) diag.Diagnostic {
	return diag.New(diag.CodeSidecar, diag.Pos{}, "pod %q of namespace %q: %v", named(q), q.Namespace, err).
		WithFix("leave the gateway's pods to its Deployment, and change that through the intent or a patch of the repository; run anything else as another account")
}
