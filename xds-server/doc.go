// Package xdsserver serves approved releases to proxies.
//
// In: an approval.Approved for each approved commit, and live endpoints from a
// folder of files and from DNS. Out: aggregated xDS over mutual TLS, receipts in
// a ledger, metrics. What always holds: nothing is served that is not in an
// Approved, except for live addresses of clusters that the release names; a
// proxy gets the class of its authenticated identity; until something is approved
// a proxy gets no answer, and keeps what it has.
package xdsserver
