// Package stream speaks aggregated xDS with proxies.
//
// In: approved releases, live endpoints, and streams of authenticated proxies.
// Out: responses in the order that package phase gives, entries in the ledger,
// and counts. A Hub has one class per identity of the release; a session is one
// stream's state and has no idea of the network, so that it can be tested alone.
//
// What always holds: a proxy gets what its identity's class has, whatever it
// says about itself; a proxy gets nothing while nothing is approved; a response
// that is not confirmed in time counts as refused; a class whose response was
// refused goes back to the last content that a proxy has confirmed completely.
package stream
