package webhook

import (
	"encoding/json"
	"net/http"
	"strings"
	"unicode/utf8"

	admission "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/guard"
	"meshc.dev/meshc/internal/printer"
	"meshc.dev/meshc/webhook/internal/inject"
)

// Bounds of what an answer says. An API server cuts warnings at 256 characters.
const (
	maxReason  = 1000
	maxWarning = 240
	maxTold    = 5
)

// verdict is the answer to one question.
type verdict struct {
	problems diag.List
	found    []guard.Found // by rules; among the problems
	patch    []inject.Operation
	status   int32 // of a refusal, 403 unless the webhook itself is the reason
}

// allowed reports whether nothing is refused.
func (v verdict) allowed() bool { return !v.problems.HasErrors() }

// annotations are what an audit event notes: what each rule found, whatever became of
// it, by the rule's ID.
func (v verdict) annotations() map[string]string {
	if len(v.found) == 0 {
		return nil
	}
	out := map[string]string{}
	for _, f := range v.found {
		if text, known := out[f.Rule.ID]; known {
			out[f.Rule.ID] = cut(text+" | "+sentence(f.Problem, false), maxReason)
		} else {
			out[f.Rule.ID] = cut(sentence(f.Problem, false), maxReason)
		}
	}
	return out
}

// response puts it into the API's words.
func (v verdict) response(uid types.UID) (*admission.AdmissionResponse, error) {
	out := &admission.AdmissionResponse{UID: uid, Allowed: v.allowed()}
	var refused []string
	for _, d := range v.problems {
		switch d.Severity {
		case diag.Note: // an annotation
		case diag.Warning:
			if len(out.Warnings) < maxTold {
				out.Warnings = append(out.Warnings, cut(sentence(d, false), maxWarning))
			}
		default:
			refused = append(refused, sentence(d, true))
		}
	}
	out.AuditAnnotations = v.annotations()
	if !out.Allowed {
		status := v.status
		if status == 0 {
			status = http.StatusForbidden
		}
		if len(refused) > maxTold {
			refused = append(refused[:maxTold], "and more")
		}
		out.Result = &metav1.Status{Status: metav1.StatusFailure, Code: status, Reason: reasonOf(status), Message: cut(strings.Join(refused, " | "), maxReason)}
		return out, nil
	}
	if len(v.patch) > 0 {
		raw, err := json.Marshal(v.patch)
		if err != nil {
			return nil, err
		}
		kind := admission.PatchTypeJSONPatch
		out.Patch, out.PatchType = raw, &kind
	}
	return out, nil
}

func reasonOf(status int32) metav1.StatusReason {
	switch status {
	case http.StatusForbidden:
		return metav1.StatusReasonForbidden
	case http.StatusTooManyRequests:
		return metav1.StatusReasonTooManyRequests
	case http.StatusRequestEntityTooLarge:
		return metav1.StatusReasonRequestEntityTooLarge
	case http.StatusBadRequest:
		return metav1.StatusReasonBadRequest
	}
	return metav1.StatusReasonServiceUnavailable
}

// sentence is a problem on one line. Names in it are other people's.
func sentence(d diag.Diagnostic, withFix bool) string {
	s := string(d.Code) + " " + place(d)
	if withFix && d.Fix != "" {
		s += "; fix: " + d.Fix
	}
	return printer.Line(s)
}

// cut bounds a text in bytes, at a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const more = "…"
	s = s[:limit-len(more)]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + more
}
