// Package stream speaks aggregated xDS with proxies.
//
// In: approved releases, live endpoints, and streams of authenticated proxies.
// Out: responses in the order that package phase gives, entries in the ledger,
// and counts. A Hub has one class per identity of the release; a session is one
// stream's state and has no idea of the network, so that it can be tested alone.
//
// What always holds: a proxy gets what its identity's class has, whatever it
// says about itself; a proxy gets nothing while nothing is approved; a response
// that is not confirmed in time counts as refused. Which of the approved contents a
// proxy gets follows from evidence alone (package rollout); a stream serves it. What a
// client has not said is unknown, and never taken for something that it said.
package stream
