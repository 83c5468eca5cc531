// Package kube holds the objects that the compiler makes against a real API server.
package kube
