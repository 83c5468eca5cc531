package store_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/xds-server/internal/store"
	"meshc.dev/meshc/xds-server/internal/view"
)

// The list of what a client reports has exactly that, each item once, and those of
// the target as they are there; equal reports give one list.
func TestReported(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e"}
	versions := rapid.MapOf(rapid.SampledFrom(names), rapid.SampledFrom([]string{"", "1", "2"}))
	rapid.Check(t, func(t *rapid.T) {
		var items []*view.Item
		for n, v := range versions.Draw(t, "served") {
			items = append(items, &view.Item{Name: n, Version: v + "x"})
		}
		sub := view.NewNames(rapid.Bool().Draw(t, "all"), rapid.SliceOf(rapid.SampledFrom(names)).Draw(t, "names"))
		target := view.NewList(items).Restrict(sub)
		told := versions.Draw(t, "told")
		for n := range told {
			if rapid.Bool().Draw(t, "same "+n) {
				if it, ok := target.Find(n); ok {
					told[n] = it.Version
				}
			}
		}
		s := store.New()
		got := s.Reported(target, sub, told)
		if again := s.Reported(target, sub, maps.Clone(told)); again != got {
			t.Fatal("the same report gives another list")
		}
		want := maps.Clone(told)
		maps.DeleteFunc(want, func(n, _ string) bool { return !sub.All && !sub.Has(n) })
		for it := range got.All() {
			v, ok := want[it.Name]
			if !ok || v != it.Version || it.Absent {
				t.Fatalf("%+v is not what was told: %v", it, want)
			}
			if at, ok := target.Find(it.Name); ok && !at.Absent && at.Version == v && at != it {
				t.Fatalf("%q is not the target's item", it.Name)
			}
			delete(want, it.Name)
		}
		if len(want) > 0 {
			t.Fatalf("missing: %v", slices.Sorted(maps.Keys(want)))
		}
	})
}

// Thousands that report everything cost no list of their own.
func TestReportedEverythingIsTheTarget(t *testing.T) {
	var items []*view.Item
	told := map[string]string{}
	for i := range 100 {
		it := &view.Item{Name: fmt.Sprint("n", i), Version: fmt.Sprint(i)}
		items, told[it.Name] = append(items, it), it.Version
	}
	target := view.NewList(items)
	s, all := store.New(), view.NewNames(true, nil)
	if s.Reported(target, all, told) != target {
		t.Error("everything is not the target itself")
	}
	delete(told, "n1")
	if l := s.Reported(target, all, told); l == target || l.Len() != 99 {
		t.Error("one less is taken for everything")
	}
	if l := s.Reported(nil, all, told); l.Len() != 99 {
		t.Error("without a target the report is lost")
	}
}
