// Package review reads what an API server asks about an object.
//
// In: the body of an admission request. Out: a Review, with the objects as plain
// JSON values, or why the body is none.
//
// What always holds: what is read is what the API server stores. A body in which a
// key stands twice, or in another case than the API's, is refused, in the review as
// well as in the objects that it carries: decoders differ in which of two they take.
package review

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	admission "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/types"
	strictjson "sigs.k8s.io/json"
)

// Operation is what is to be done to the object.
type Operation string

// The operations of an admission request.
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// Object is a Kubernetes object as encoding/json would give it, but for whole
// numbers, which are int64.
type Object = map[string]any

// Review is one question (admission.k8s.io/v1 AdmissionReview.request).
type Review struct {
	UID       types.UID
	Operation Operation
	// Group, Version and Kind are those of the object as the webhook gets it.
	Group, Version, Kind string
	// Resource is the plural name, SubResource "" or such as "scale".
	Resource, SubResource string
	Namespace, Name       string
	User                  string
	Groups                []string
	DryRun                bool
	// New is the object as it would be stored, nil for a deletion; Old as it is, nil
	// for a creation.
	New, Old Object
}

// Read takes a request apart.
func Read(body []byte) (Review, error) {
	if !utf8.Valid(body) {
		return Review{}, errors.New("the review is not UTF-8")
	}
	var in admission.AdmissionReview
	if err := strict(body, &in); err != nil {
		return Review{}, fmt.Errorf("the review is no AdmissionReview: %w", err)
	}
	if in.Kind != "AdmissionReview" || in.APIVersion != admission.SchemeGroupVersion.String() {
		return Review{}, fmt.Errorf("the review is a %q of %q, not an AdmissionReview of %q", in.Kind, in.APIVersion, admission.SchemeGroupVersion.String())
	}
	q := in.Request
	if q == nil || q.UID == "" {
		return Review{}, errors.New("the review asks nothing: it has no request with a uid")
	}
	out := Review{
		UID: q.UID, Operation: Operation(q.Operation), Group: q.Kind.Group, Version: q.Kind.Version, Kind: q.Kind.Kind,
		Resource: q.Resource.Resource, SubResource: q.SubResource, Namespace: q.Namespace, Name: q.Name,
		User: q.UserInfo.Username, Groups: q.UserInfo.Groups, DryRun: q.DryRun != nil && *q.DryRun,
	}
	switch out.Operation {
	case Create, Update, Delete, Connect:
	default:
		return Review{}, fmt.Errorf("the review is about %q, which is no operation", q.Operation)
	}
	var err error
	if out.New, err = object(q.Object.Raw); err != nil {
		return Review{}, fmt.Errorf("the object of the review: %w", err)
	}
	if out.Old, err = object(q.OldObject.Raw); err != nil {
		return Review{}, fmt.Errorf("the old object of the review: %w", err)
	}
	if out.New == nil && (out.Operation == Create || out.Operation == Update) || out.Old == nil && out.Operation == Update {
		return Review{}, fmt.Errorf("the review of %s carries no object", out.Operation)
	}
	if out.Name == "" && out.Operation == Delete {
		out.Name = nameOf(out.Old) // one of a collection, which is asked for without a name
	}
	return out, nil
}

func nameOf(o Object) string {
	m, _ := o["metadata"].(Object)
	name, _ := m["name"].(string)
	return name
}

// object reads one object; absent and null are nil.
func object(raw json.RawMessage) (Object, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var o Object
	if err := strict(raw, &o); err != nil {
		return nil, err
	}
	return o, nil
}

// strict decodes as the API server does, and refuses doubled and unknown keys.
func strict(raw []byte, into any) error {
	doubled, err := strictjson.UnmarshalStrict(raw, into)
	if err != nil {
		return err
	}
	return errors.Join(doubled...)
}
