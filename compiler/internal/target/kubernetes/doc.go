// Package kubernetes turns a mesh into the objects that a cluster needs around the
// workloads: Namespaces, ServiceAccounts, Services, NetworkPolicies and ValidatingAdmissionPolicies, and what runs
// gateways; and it says what pods get beside their own containers.
//
// In: a linked mesh, the column of the feature matrix, and what the root package says
// of the target. Out: one YAML artifact per object, with sorted keys, a
// kustomization.yaml that lists them in the order in which a cluster takes them, and
// problems. The mesh is never changed.
//
// What always holds: every object names its owner, carries the labels by which it is
// known to be managed, and the digest of its own content, never a release's, so that
// a release touches only what it changes. An object's path is its key: no two objects
// share one.
package kubernetes
