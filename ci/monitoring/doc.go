// Package monitoring shows the files of examples/monitoring to the programs that they are for: a real
// Prometheus scrapes a real mesh by the configuration as it stands, and is asked what each alert and
// each panel of each dashboard asks it.
package monitoring
