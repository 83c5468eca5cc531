package kubernetes

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/internal/canon"
)

// clusterFolder holds what lies in no namespace.
const clusterFolder = "cluster"

// pathOf is an object's path below Folder.
func pathOf(o object) string {
	folder := o.Metadata.Namespace
	if folder == "" {
		folder = clusterFolder
	}
	return folder + "/" + strings.ToLower(o.Kind) + "-" + o.Metadata.Name + ".yaml"
}

// sealed is an object's file: canonical YAML with the digest of its content, which is
// that of its canonical JSON without this annotation.
func sealed(o object) ([]byte, error) {
	text, err := canon.JSON(o)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	o.Metadata.Annotations[annotDigest] = "sha256:" + canon.Digest(text)
	return yamlOf(o)
}

// yamlOf is the one YAML form of a value: sorted keys, strings quoted where they would
// be read as something else.
func yamlOf(v any) ([]byte, error) {
	text, err := yaml.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	return text, nil
}
