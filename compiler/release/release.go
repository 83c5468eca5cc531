// Package release is the format of a compiled mesh: named artifacts as
// canonical bytes, a manifest of their digests, and provenance beside them.
//
// A release is files, not Go objects. The digest over the manifest's artifact
// list is its name. Neither a commit, nor a line number, nor a time stands in
// an artifact, so a changed comment gives the same release.
package release

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// FormatVersion is the manifest's format. A reader refuses what it does not know.
const FormatVersion = "meshc.dev/release/v2"

// Artifact is one file of a release. Path is relative and slash-separated.
type Artifact struct {
	Path  string
	Bytes []byte
}

// Inputs notes what a release was made from. It is beside the artifacts, no
// part of their digest.
type Inputs struct {
	Environment string `json:"environment"`
	// Tree is the digest of the input files.
	Tree string `json:"tree"`
	// Compiler, Schema and Policy name the tool: version and digests.
	Compiler string `json:"compiler"`
	Schema   string `json:"schema"`
	Policy   string `json:"policy"`
	// At is the compile date (RFC 3339): what had expired by then is left out.
	At string `json:"at"`
}

// Manifest lists the artifacts.
type Manifest struct {
	Format string `json:"format"`
	// Digest is the release's name: SHA-256 (hex) over the sorted lines
	// "path SP digest LF" of Artifacts.
	Digest string `json:"digest"`
	// Artifacts maps path to SHA-256 (hex).
	Artifacts map[string]string `json:"artifacts"`
	Inputs    Inputs            `json:"inputs"`
}

// Provenance maps an artifact path or a mesh path
// ("service/bookinfo/reviews/route/default") to the user's line.
type Provenance map[string]diag.Pos

// Release is an immutable, sealed set of artifacts. Only Seal and ReadDir make one.
type Release struct {
	digest     string
	inputs     Inputs
	files      []file // sorted by path, each path once
	provenance Provenance
}

// file is an artifact and its SHA-256 (hex).
type file struct {
	Artifact
	digest string
}

// Step is a release and the instant from which it is in force. Of a commit's steps
// the first has the zero instant; later ones follow the end of something temporary.
type Step struct {
	From    time.Time
	Release Release
}

// Digest is the release's name, "" for the zero Release.
func (r Release) Digest() string { return r.digest }

// Manifest returns the manifest.
func (r Release) Manifest() Manifest {
	if r.files == nil {
		return Manifest{}
	}
	m := Manifest{Format: FormatVersion, Digest: r.digest, Artifacts: make(map[string]string, len(r.files)), Inputs: r.inputs}
	for _, f := range r.files {
		m.Artifacts[f.Path] = f.digest
	}
	return m
}

// Inputs is what the release was made from.
func (r Release) Inputs() Inputs { return r.inputs }

// Provenance returns where each artifact and mesh path comes from. Read only.
func (r Release) Provenance() Provenance { return r.provenance }

// Paths returns all artifact paths, sorted.
func (r Release) Paths() []string {
	out := make([]string, len(r.files))
	for i, f := range r.files {
		out[i] = f.Path
	}
	return out
}

// Artifact returns the bytes at path. Read only.
func (r Release) Artifact(p string) ([]byte, bool) {
	f, ok := r.file(p)
	return f.Bytes, ok
}

// ArtifactDigest returns the SHA-256 (hex) of the artifact at path, "" if there is none.
func (r Release) ArtifactDigest(p string) string {
	f, _ := r.file(p)
	return f.digest
}

func (r Release) file(p string) (file, bool) {
	i, ok := slices.BinarySearchFunc(r.files, p, func(f file, p string) int { return cmp.Compare(f.Path, p) })
	if !ok {
		return file{}, false
	}
	return r.files[i], true
}

// Seal checks and freezes artifacts. Two artifacts with one path must have the
// same bytes; a path must be clean, relative and slash-separated.
func Seal(arts []Artifact, in Inputs, prov Provenance) (Release, error) {
	return SealKnown(arts, in, prov, canon.Digest)
}

// SealKnown is Seal with a digest function that may know the digests of bytes that
// it has seen; it must return what canon.Digest does.
func SealKnown(arts []Artifact, in Inputs, prov Provenance, digest func([]byte) string) (Release, error) {
	files := make([]file, len(arts))
	sorted := true
	for i, a := range arts {
		if err := CheckPath(a.Path); err != nil {
			return Release{}, err
		}
		files[i] = file{a, digest(a.Bytes)}
		sorted = sorted && (i == 0 || arts[i-1].Path < a.Path)
	}
	if !sorted {
		slices.SortStableFunc(files, func(a, b file) int { return cmp.Compare(a.Path, b.Path) })
		for i := 1; i < len(files); i++ {
			if files[i-1].Path == files[i].Path && files[i-1].digest != files[i].digest {
				return Release{}, fmt.Errorf("sealing release: two different artifacts at %q", files[i].Path)
			}
		}
		files = slices.CompactFunc(files, func(a, b file) bool { return a.Path == b.Path })
	}
	return Release{digestOf(files), in, files, prov}, nil
}

// CheckPath demands a path that means one file on every system, and that stands
// on one line of what the digest is made of. It looks at every artifact of every
// compile, so it goes over the path once and builds no string.
func CheckPath(p string) error {
	begin := 0 // of the segment
	for i := 0; i <= len(p); i++ {
		if i == len(p) || p[i] == '/' {
			if segment := p[begin:i]; segment == "" || segment == "." || segment == ".." {
				return fmt.Errorf("artifact path %q is not clean and relative", p)
			}
			begin = i + 1
			continue
		}
		switch c := p[i]; {
		case c <= ' ', c > '~', c == '\\', c == ':', c == '*', c == '?', c == '"', c == '<', c == '>', c == '|':
			return fmt.Errorf("artifact path %q has a character that some file system or list has no place for", p)
		}
	}
	if p == manifestFile || p == provenanceFile {
		return fmt.Errorf("artifact path %q is the release's own", p)
	}
	return nil
}

// digestOf names a release of these files.
func digestOf(files []file) string {
	size := 0
	for _, f := range files {
		size += len(f.Path) + len(f.digest) + 2
	}
	b := make([]byte, 0, size)
	for _, f := range files {
		b = append(append(append(append(b, f.Path...), ' '), f.digest...), '\n')
	}
	return canon.Digest(b)
}

// Role is what a proxy does.
type Role string

// The roles of a proxy.
const (
	Sidecar Role = "sidecar"
	Gateway Role = "gateway"
)

// Class is a proxy class: role × identity, the only key of a snapshot.
type Class struct {
	Role      Role   `json:"role"`
	Namespace string `json:"namespace"`
	Account   string `json:"account"`
}

// String gives "role/namespace/account".
func (c Class) String() string { return string(c.Role) + "/" + c.Namespace + "/" + c.Account }

// SPIFFEID gives "spiffe://trustDomain/ns/namespace/sa/account".
func (c Class) SPIFFEID(trustDomain string) string {
	return "spiffe://" + trustDomain + "/ns/" + c.Namespace + "/sa/" + c.Account
}

// ParseClass reads the form of String.
func ParseClass(s string) (Class, error) {
	p := strings.Split(s, "/")
	if len(p) != 3 || (Role(p[0]) != Sidecar && Role(p[0]) != Gateway) || p[1] == "" || p[2] == "" {
		return Class{}, fmt.Errorf("proxy class %q is not role/namespace/account with role sidecar or gateway", s)
	}
	return Class{Role(p[0]), p[1], p[2]}, nil
}

// TypeURL is an xDS resource type.
type TypeURL = string

// The resource types of a snapshot, in delivery order.
const (
	ClusterType  TypeURL = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType TypeURL = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	ListenerType TypeURL = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType    TypeURL = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

// Types lists the types of a snapshot in delivery order.
func Types() []TypeURL { return []TypeURL{ClusterType, EndpointType, ListenerType, RouteType} }

// Resource is one line of a class file: a resource's name and the digest of its
// canonical JSON, which is at BlobPath(digest).
type Resource struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	// Needs are the resources of the snapshot that this one names. Who made the
	// resource says it; who delivers it believes it, and looks into no resource.
	Needs References `json:"needs,omitempty"`
}

// Endpoints says where the live addresses of an EDS cluster come from.
type Endpoints struct {
	// Cluster is the EDS cluster's name, by which proxies ask for its addresses, too.
	Cluster string `json:"cluster"`
	// File names an endpoint file of the server's endpoint folder; DNS is
	// "host:port". None is set for a cluster of a Discovered service.
	File string `json:"file,omitempty"`
	DNS  string `json:"dns,omitempty"`
	// Locality is in which order a proxy takes the addresses, by where it is and where they
	// are; nil if all are alike.
	Locality *Locality `json:"locality,omitempty"`
	// Workloads are the addresses themselves, where the release knows them: then no source does.
	Workloads []Workload `json:"workloads,omitempty"`
}

// Workload is an address of a cluster.
type Workload struct {
	// Address is "IP:port".
	Address string `json:"address"`
	Region  string `json:"region,omitempty"`
	Zone    string `json:"zone,omitempty"`
	// Weight is relative to others, 1 to 128; 0 means 1.
	Weight uint32 `json:"weight,omitempty"`
}

// Equal tells whether the addresses are the same, and their order.
func (e Endpoints) Equal(o Endpoints) bool {
	return e.Cluster == o.Cluster && e.File == o.File && e.DNS == o.DNS && e.Locality.Key() == o.Locality.Key() && slices.Equal(e.Workloads, o.Workloads)
}

// Discovered is a service whose instances a Kubernetes cluster knows: the release says
// what they are called, not where they are.
type Discovered struct {
	Namespace, Name string
	// Ports are the names of its ports, in the release's order.
	Ports    []string
	Versions []DiscoveredVersion
}

// DiscoveredVersion is a version of such a service.
type DiscoveredVersion struct {
	Name string
	// Labels are those that tell its pods from the others of the service; none means
	// all of them.
	Labels map[string]string
	// Clusters are the names of its EDS clusters by port, without ports for which the
	// intent says where they are.
	Clusters map[string][]string
}

// Snapshot is the content of envoy/<class>.json: a class's resources by type.
type Snapshot struct {
	Class       Class  `json:"class"`
	TrustDomain string `json:"trust_domain"`
	// Proxyless says that the class are gRPC programs, which understand a part of what Envoy does.
	Proxyless bool                   `json:"proxyless,omitempty"`
	Resources map[TypeURL][]Resource `json:"resources"`
	// Endpoints lists the live clusters of the class, sorted by cluster.
	Endpoints []Endpoints `json:"endpoints,omitempty"`
}

// SnapshotPath is the artifact path of a class's snapshot.
func SnapshotPath(c Class) string { return "envoy/" + c.String() + ".json" }

// BlobPath is the artifact path of the resource with that digest.
func BlobPath(digest string) string { return "envoy/blobs/" + digest }

// Classes returns all classes of the release, sorted by name.
func (r Release) Classes() []Class {
	var out []Class
	for _, f := range r.files {
		rest, ok := strings.CutPrefix(f.Path, "envoy/")
		if !ok || strings.HasPrefix(rest, "blobs/") {
			continue
		}
		if c, err := ParseClass(strings.TrimSuffix(rest, ".json")); err == nil {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b Class) int { return cmp.Compare(a.String(), b.String()) })
	return out
}

// Snapshot reads the snapshot of a class.
func (r Release) Snapshot(c Class) (Snapshot, error) {
	var s Snapshot
	err := r.snapshot(c, &s)
	return s, err
}

// closed refuses a release of which a snapshot has a reference to what it lacks.
func (r Release) closed() error {
	for _, c := range r.Classes() {
		s, err := r.Snapshot(c)
		if err != nil {
			return err
		}
		if d := s.Dangling(); len(d) > 0 {
			return diag.List{diag.New(diag.CodeInconsistent, diag.Pos{File: SnapshotPath(c)}, "%s", d[0]).
				WithFix("compile the release again; if it is the same then, the compiler is at fault")}.Err()
		}
	}
	return nil
}

func (r Release) snapshot(c Class, into any) error {
	b, ok := r.Artifact(SnapshotPath(c))
	if !ok {
		return fmt.Errorf("release %s has no proxy class %q", short(r.Digest()), c)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("reading snapshot %q: %w", c, err)
	}
	return nil
}

// Blob returns the canonical JSON of the resource with that digest.
func (r Release) Blob(digest string) ([]byte, error) {
	b, ok := r.Artifact(BlobPath(digest))
	if !ok {
		return nil, fmt.Errorf("release %s has no resource %s", short(r.Digest()), short(digest))
	}
	return b, nil
}

func short(d string) string { return d[:min(12, len(d))] }
