// Package flux shows that real Flux and meshc go together: what Git approved is applied
// through the webhook, and what it did not is stopped by one of the two.
package flux
