package kube

import (
	"maps"
	"slices"

	"meshc.dev/meshc/compiler/release"
)

// table is what is known of the cluster, and which services have to be joined again.
// Its user sees to it that nobody else uses it at the same time.
type table struct {
	services map[name]release.Discovered
	slices   map[string]*slice        // by their own names
	of       map[name]map[name]*slice // by service
	pods     map[string]*pod          // by uid
	// in counts the slices of each service that have the pod, by its uid.
	in    map[string]map[name]int
	nodes map[string]place

	dirty  map[name]bool
	joined map[name]found
}

func newTable() *table {
	return &table{
		services: map[name]release.Discovered{}, slices: map[string]*slice{}, of: map[name]map[name]*slice{}, pods: map[string]*pod{},
		in: map[string]map[name]int{}, nodes: map[string]place{}, dirty: map[name]bool{}, joined: map[name]found{},
	}
}

// want sets the services of the release.
func (t *table) want(all []release.Discovered) {
	next := make(map[name]release.Discovered, len(all))
	for _, s := range all {
		n := name{s.Namespace, s.Name}
		next[n] = s
		t.dirty[n] = true
	}
	maps.DeleteFunc(t.joined, func(n name, _ found) bool { _, ok := next[n]; return !ok })
	t.services = next
}

// touch has the service joined again, if the release has it.
func (t *table) touch(service name) {
	if _, ok := t.services[service]; ok {
		t.dirty[service] = true
	}
}

// setSlice takes a slice that is new or changed.
func (t *table) setSlice(now *slice) {
	t.removeSlice(now.name.String())
	t.slices[now.name.String()] = now
	if t.of[now.service] == nil {
		t.of[now.service] = map[name]*slice{}
	}
	t.of[now.service][now.name] = now
	for _, e := range now.endpoints {
		if t.in[e.pod] == nil {
			t.in[e.pod] = map[name]int{}
		}
		t.in[e.pod][now.service]++
	}
	t.touch(now.service)
}

func (t *table) removeSlice(key string) {
	old := t.slices[key]
	if old == nil {
		return
	}
	delete(t.slices, key)
	delete(t.of[old.service], old.name)
	if len(t.of[old.service]) == 0 {
		delete(t.of, old.service)
	}
	for _, e := range old.endpoints {
		if t.in[e.pod][old.service]--; t.in[e.pod][old.service] == 0 {
			delete(t.in[e.pod], old.service)
		}
		if len(t.in[e.pod]) == 0 {
			delete(t.in, e.pod)
		}
	}
	t.touch(old.service)
}

// setPod takes a pod that is new or changed. Most changes of a pod are of its status.
func (t *table) setPod(uid string, now *pod) {
	if old := t.pods[uid]; old != nil && old.name == now.name && maps.Equal(old.labels, now.labels) {
		return
	}
	t.pods[uid] = now
	t.touchThose(uid)
}

func (t *table) removePod(uid string) {
	if t.pods[uid] != nil {
		delete(t.pods, uid)
		t.touchThose(uid)
	}
}

// touchThose has the services joined again that have the pod.
func (t *table) touchThose(uid string) {
	for service := range t.in[uid] {
		t.touch(service)
	}
}

// setNode takes where a node is.
func (t *table) setNode(node string, now place) {
	if old, known := t.nodes[node]; known && old == now {
		return
	}
	t.nodes[node] = now
	for _, s := range t.slices {
		if slices.ContainsFunc(s.endpoints, func(e endpoint) bool { return e.node == node }) {
			t.touch(s.service)
		}
	}
}

// join joins what has changed, and returns the addresses that have. A service without
// slices has no addresses to tell: what it had stays.
func (t *table) join() map[name]found {
	out := map[name]found{}
	for n := range t.dirty {
		delete(t.dirty, n)
		if len(t.of[n]) == 0 {
			delete(t.joined, n)
			continue
		}
		all := slices.Collect(maps.Values(t.of[n]))
		out[n] = join(t.services[n], all, t.pods, t.nodes)
		t.joined[n] = out[n]
	}
	return out
}

// unknown counts the endpoints of services that the release does not have.
func (t *table) unknown() int {
	n := 0
	for service, all := range t.of {
		if _, ok := t.services[service]; ok {
			continue
		}
		for _, s := range all {
			n += len(s.endpoints)
		}
	}
	return n
}
