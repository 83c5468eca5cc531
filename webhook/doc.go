// Package webhook answers an API server: may this object be stored, and what does a pod
// get beside its own containers.
//
// In: approved releases, policies over objects, and the questions of an API server over
// TLS. Out: answers within a deadline.
//
// What always holds: without an approved release or without policies nothing is ready;
// what could not be judged is refused with the reason; a question that is large, slow or
// malformed costs the others nothing; no answer has a side effect, so that a dry run is
// like any other; the webhook never removes its own configuration.
package webhook
