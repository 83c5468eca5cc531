package release_test

import (
	"testing"

	"meshc.dev/meshc/compiler/release"
)

// Nearer is a smaller rank, and a place that nobody knows is near to nobody.
func TestRanksOfPlaces(t *testing.T) {
	at := func(region, zone string) release.Place { return release.Place{Region: region, Zone: zone} }
	failover := map[string]map[string]int{"a": {"b": 1, "c": 2, "d": 2}}
	for _, c := range []struct {
		rule  *release.Locality
		here  release.Place
		there release.Place
		want  int
	}{
		{nil, at("r", "a"), at("r", "b"), 0},
		{&release.Locality{}, at("r", "a"), at("s", "b"), 0},
		{&release.Locality{Prefer: "zone"}, at("r", "a"), at("r", "a"), 0},
		{&release.Locality{Prefer: "zone"}, at("", "a"), at("r", "a"), 0},
		{&release.Locality{Prefer: "zone"}, at("r", "a"), at("r", "b"), 1},
		{&release.Locality{Prefer: "zone"}, at("r", "a"), at("s", "b"), 2},
		{&release.Locality{Prefer: "zone"}, at("", "a"), at("", "b"), 2},
		{&release.Locality{Prefer: "zone"}, at("", ""), at("", ""), 2},
		{&release.Locality{Prefer: "region"}, at("r", "a"), at("r", "b"), 0},
		{&release.Locality{Prefer: "region"}, at("r", "a"), at("s", "a"), 1},
		{&release.Locality{Prefer: "region"}, at("", "a"), at("", "a"), 1},
		{&release.Locality{Failover: failover}, at("r", "a"), at("s", "a"), 0},
		{&release.Locality{Failover: failover}, at("r", "a"), at("s", "b"), 1},
		{&release.Locality{Failover: failover}, at("r", "a"), at("s", "d"), 2},
		{&release.Locality{Failover: failover}, at("r", "a"), at("r", "e"), release.MaxRank + 1},
		{&release.Locality{Failover: failover}, at("r", "a"), at("r", ""), release.MaxRank + 1},
		{&release.Locality{Failover: failover}, at("r", "b"), at("r", "a"), 0},
		{&release.Locality{Failover: failover}, at("", ""), at("r", "a"), 0},
		{&release.Locality{Prefer: "zone", Failover: failover}, at("r", "a"), at("r", "e"), release.MaxRank + 1},
		{&release.Locality{Prefer: "zone", Failover: failover}, at("r", "b"), at("r", "a"), 1},
	} {
		if got := c.rule.Rank(c.here, c.there); got != c.want {
			t.Errorf("%+v: from %+v to %+v: %d, want %d", c.rule, c.here, c.there, got, c.want)
		}
	}
	if a, b := (&release.Locality{Failover: failover}).Key(), (&release.Locality{Failover: map[string]map[string]int{"a": {"b": 1}, "c": {"d": 2}}}).Key(); a == b {
		t.Errorf("two rules have one key: %s", a)
	}
}
