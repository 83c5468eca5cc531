// Package install is meshc itself in a cluster: the objects that run its server and its
// webhook, and what their accounts may do.
//
// In: Settings. Out: a kustomize base with overlays as files, the objects of one overlay,
// and a cluster that has them. The files follow from the settings alone.
//
// What always holds: every pod meets the level "restricted" of Pod Security; each account
// has the rights of Rights and no others; what is applied was taken by the API server in a
// dry run as a whole before anything is changed.
package install
