package resolve

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// described is what descriptors say of a port: the methods of each service of gRPC, sorted.
type described struct {
	digest  string
	methods map[string][]string
}

// declareDescriptors enters which methods a service's ports have that say it, by a file.
func (l *linker) declareDescriptors(p *pkg, id string, n intent.Node) {
	for _, e := range n.Field("port").Fields() {
		file := e.Node.Field("descriptors")
		if !file.Exists() {
			continue
		}
		if e.Node.Field("protocol").Str() == string(model.TCP) {
			l.add(diag.New(diag.CodeDescriptors, file.Pos(), "port %q of %q takes bytes only, and descriptors say what is called", e.Name, id).WithFix(`let the port say protocol: "grpc", or delete descriptors`))
			continue
		}
		b, ok := l.fileBytes(p, file)
		if !ok {
			continue
		}
		methods := methodsOf(b)
		if len(methods) == 0 {
			l.add(diag.New(diag.CodeDescriptors, file.Pos(), "%s describes no service of gRPC", file.Str()).
				WithFix("write it by: protoc --include_imports --descriptor_set_out=%s …, or buf build -o %s", file.Str(), file.Str()))
			continue
		}
		l.described[portKey(id, e.Name)] = described{canon.Digest(b), methods}
	}
}

func portKey(id, port string) string { return id + ":" + port }

// methodsOf are those of each service that a FileDescriptorSet holds; nil if it is none.
func methodsOf(set []byte) map[string][]string {
	var files descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(set, &files); err != nil {
		return nil
	}
	out := map[string][]string{}
	for _, f := range files.GetFile() {
		for _, s := range f.GetService() {
			name := s.GetName()
			if f.GetPackage() != "" {
				name = f.GetPackage() + "." + name
			}
			methods := []string{}
			for _, m := range s.GetMethod() {
				methods = append(methods, m.GetName())
			}
			slices.Sort(methods)
			out[name] = methods
		}
	}
	return out
}

// builtIn are services that servers of gRPC add by themselves, with their methods: no descriptors of an application have them.
func builtIn() map[string][]string {
	reflection := []string{"ServerReflectionInfo"}
	return map[string][]string{
		"grpc.health.v1.Health":                    {"Check", "List", "Watch"},
		"grpc.reflection.v1.ServerReflection":      reflection,
		"grpc.reflection.v1alpha.ServerReflection": reflection,
		"grpc.channelz.v1.Channelz":                {"GetChannel", "GetServer", "GetServerSockets", "GetServers", "GetSocket", "GetSubchannel", "GetTopChannels"},
	}
}

// describes refuses what terms or a match, and their `not`, say of gRPC where the ports of a service that they are about, nil for
// all, say by descriptors which methods they have. One that speaks gRPC and does not say it may have any.
func (l *linker) describes(n intent.Node, id string, ports []string) {
	methods := map[string][]string{}
	for _, p := range l.ports[id] {
		if ports != nil && !slices.Contains(ports, p.Name) {
			continue
		}
		d, ok := l.described[portKey(id, p.Name)]
		if !ok && p.Protocol == model.GRPC {
			return
		}
		for service, of := range d.methods { // each port may have a part of it
			methods[service] = append(methods[service], of...)
		}
	}
	if len(methods) == 0 {
		return
	}
	for _, of := range methods {
		slices.Sort(of)
	}
	for _, called := range []intent.Node{n.Field("grpc"), n.Field("not").Field("grpc")} {
		if called.Exists() {
			l.isCalled(called, methods)
		}
	}
}

// isCalled refuses names of gRPC that are not among the methods.
func (l *linker) isCalled(n intent.Node, methods map[string][]string) {
	service, method := n.Field("service"), n.Field("method")
	of, ok := methods[service.Str()]
	if own, added := builtIn()[service.Str()]; added && !ok {
		of, ok = own, true
	}
	switch {
	case service.Exists() && !ok:
		l.add(l.unknown(service.Pos(), "service of gRPC", service.Str(), slices.Sorted(maps.Keys(methods))))
	case service.Exists() && method.Exists() && !slices.Contains(of, method.Str()):
		l.add(l.unknown(method.Pos(), "method of "+service.Str(), method.Str(), of))
	case method.Exists() && !service.Exists():
		var all []string
		for _, of := range methods {
			all = append(all, of...)
		}
		slices.Sort(all)
		if all = slices.Compact(all); !slices.Contains(all, method.Str()) && !addsMethod(method.Str()) {
			l.add(l.unknown(method.Pos(), "method of gRPC", method.Str(), all))
		}
	}
}

// addsMethod reports whether a server adds a method of that name by itself.
func addsMethod(name string) bool {
	for _, of := range builtIn() {
		if slices.Contains(of, name) {
			return true
		}
	}
	return false
}

// describesCalls is describes for a gateway's route, whose destinations may be several. One that moves paths takes
// what visitors call, not what services have.
func (l *linker) describesCalls(route intent.Node, r model.Route) {
	for _, name := range r.Traits.Names() {
		v, _ := r.Traits.Lookup(name)
		if c, ok := v.(trait.Changing); ok && c.Image().Path != nil {
			return
		}
	}
	for _, t := range r.To {
		if t.Service != "" {
			l.describes(route.Field("match"), t.Service, []string{t.Port})
		}
	}
}
