package kube

import (
	"fmt"
	"iter"
	"maps"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// store is what a reflector writes objects of one kind to. It puts what is used of them
// into the table at once: there is no second copy.
type store[T any] struct {
	source *Source
	key    func(T) string
	put    func(*table, T)
	remove func(*table, string)
	keys   func(*table) iter.Seq[string]
}

func (s *Source) sliceStore() store[*discoveryv1.EndpointSlice] {
	return store[*discoveryv1.EndpointSlice]{
		source: s,
		key:    func(o *discoveryv1.EndpointSlice) string { return name{o.Namespace, o.Name}.String() },
		put:    func(t *table, o *discoveryv1.EndpointSlice) { t.setSlice(sliceOf(o)) },
		remove: (*table).removeSlice,
		keys:   func(t *table) iter.Seq[string] { return maps.Keys(t.slices) },
	}
}

func (s *Source) podStore() store[*metav1.PartialObjectMetadata] {
	return store[*metav1.PartialObjectMetadata]{
		source: s,
		key:    func(o *metav1.PartialObjectMetadata) string { return string(o.UID) },
		put:    func(t *table, o *metav1.PartialObjectMetadata) { t.setPod(string(o.UID), podOf(o)) },
		remove: (*table).removePod,
		keys:   func(t *table) iter.Seq[string] { return maps.Keys(t.pods) },
	}
}

func (s *Source) nodeStore() store[*metav1.PartialObjectMetadata] {
	return store[*metav1.PartialObjectMetadata]{
		source: s,
		key:    func(o *metav1.PartialObjectMetadata) string { return o.Name },
		put:    func(t *table, o *metav1.PartialObjectMetadata) { t.setNode(o.Name, placeOf(o)) },
		remove: func(t *table, node string) { delete(t.nodes, node) }, // its endpoints go with its pods
		keys:   func(t *table) iter.Seq[string] { return maps.Keys(t.nodes) },
	}
}

// with changes the table and has what changed joined.
func (s *Source) with(f func(*table)) {
	s.mu.Lock()
	f(s.table)
	waiting := len(s.table.dirty) > 0
	s.mu.Unlock()
	if waiting {
		s.changed()
	}
}

// as is the object as what the store is for; a reflector gives no other.
func as[T any](obj any) (T, error) {
	out, ok := obj.(T)
	if !ok {
		return out, fmt.Errorf("the API server gave a %T, asked was a %T", obj, out)
	}
	return out, nil
}

// Add implements cache.ReflectorStore.
func (s store[T]) Add(obj any) error { return s.Update(obj) }

// Update implements cache.ReflectorStore.
func (s store[T]) Update(obj any) error {
	o, err := as[T](obj)
	if err != nil {
		return err
	}
	s.source.with(func(t *table) { s.put(t, o) })
	return nil
}

// Delete implements cache.ReflectorStore.
func (s store[T]) Delete(obj any) error {
	o, err := as[T](obj)
	if err != nil {
		return err
	}
	s.source.with(func(t *table) { s.remove(t, s.key(o)) })
	return nil
}

// Replace implements cache.ReflectorStore: it takes all objects there are.
func (s store[T]) Replace(objs []any, _ string) error {
	all := make([]T, 0, len(objs))
	there := make(map[string]bool, len(objs))
	for _, obj := range objs {
		o, err := as[T](obj)
		if err != nil {
			return err
		}
		all = append(all, o)
		there[s.key(o)] = true
	}
	s.source.with(func(t *table) {
		for _, o := range all {
			s.put(t, o)
		}
		for k := range s.keys(t) {
			if !there[k] {
				s.remove(t, k)
			}
		}
	})
	return nil
}

// Resync implements cache.ReflectorStore.
func (store[T]) Resync() error { return nil }
