// Package argocd holds the example's objects for Argo CD against its own definitions, on a
// real API server, and runs the Lua in them. Argo CD itself does not run here: its programs
// cannot be built from their published modules.
package argocd
