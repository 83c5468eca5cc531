package release

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Locality is an order of a cluster's addresses by places. A release has the rule, and who
// delivers the addresses applies it, since the proxies of a class are in several places. Envoy
// takes a later rank as far as the ones before are not well.
type Locality struct {
	// Prefer is PreferZone or PreferRegion, "" for no order but Failover's.
	Prefer string `json:"prefer,omitempty"`
	// Failover are, for proxies of a zone, the ranks of other zones behind their own, 1 to
	// MaxRank. It stands in place of Prefer for them.
	Failover map[string]map[string]int `json:"failover,omitempty"`
}

// What Locality.Prefer may say: the proxy's own zone, then its region, then what is left; or
// its region, then what is left.
const (
	PreferZone   = "zone"
	PreferRegion = "region"
)

// MaxRank is the greatest rank that is written. What has none comes behind it, so that there are
// MaxRank+2 ranks at most.
const MaxRank = 6

// Place is where an address or a proxy is; "" is unknown.
type Place struct{ Region, Zone string }

// Rank is the rank of an address there for a proxy here: 0, the first choice, to MaxRank+1. A
// place that is not known is nobody's own.
func (l *Locality) Rank(here, there Place) int {
	if l == nil {
		return 0
	}
	sameZone := here.Zone != "" && here.Zone == there.Zone
	sameRegion := here.Region != "" && here.Region == there.Region
	ranks, failsOver := l.Failover[here.Zone]
	failsOver = failsOver && here.Zone != ""
	switch {
	case sameZone && (failsOver || l.Prefer == PreferZone):
		return 0
	case failsOver && ranks[there.Zone] > 0:
		return ranks[there.Zone]
	case failsOver:
		return MaxRank + 1
	case l.Prefer == "" || l.Prefer == PreferRegion && sameRegion:
		return 0
	case l.Prefer == PreferZone && !sameRegion:
		return 2
	}
	return 1
}

// Key is equal for equal rules, and for no others; "" for none.
func (l *Locality) Key() string {
	if l == nil {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%q", l.Prefer)
	for _, from := range slices.Sorted(maps.Keys(l.Failover)) {
		fmt.Fprintf(&b, " %q:", from)
		for _, to := range slices.Sorted(maps.Keys(l.Failover[from])) {
			fmt.Fprintf(&b, " %q %d", to, l.Failover[from][to])
		}
	}
	return b.String()
}
