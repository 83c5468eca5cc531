package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/xds-server/internal/endpoints"
)

type document struct {
	// Endpoints has no default: a file that was cut short must not mean "none".
	Endpoints *[]entry `json:"endpoints"`
}

// entry is "ip:port" or an object.
type entry struct {
	Address  string           `json:"address"`
	Health   endpoints.Health `json:"health"`
	Priority uint32           `json:"priority"`
	Weight   uint32           `json:"weight"`
	Region   string           `json:"region"`
	Zone     string           `json:"zone"`
	SubZone  string           `json:"subzone"`
}

// UnmarshalJSON reads both forms and refuses fields that do not exist.
func (e *entry) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '"' {
		return json.Unmarshal(raw, &e.Address)
	}
	type plain entry
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return dec.Decode((*plain)(e))
}

// Parse reads the content of an endpoint file, JSON or YAML.
func Parse(raw []byte) (endpoints.Addresses, error) {
	var doc document
	if err := yaml.UnmarshalStrict(raw, &doc); err != nil {
		return endpoints.Addresses{}, fmt.Errorf("reading endpoints: %w", err)
	}
	if doc.Endpoints == nil {
		return endpoints.Addresses{}, errors.New(`reading endpoints: no field "endpoints"; an empty list is written []`)
	}
	list := make([]endpoints.Address, 0, len(*doc.Endpoints))
	for _, e := range *doc.Endpoints {
		ap, err := netip.ParseAddrPort(e.Address)
		if err != nil {
			return endpoints.Addresses{}, fmt.Errorf("reading endpoints: %q is not IP:PORT", e.Address)
		}
		list = append(list, endpoints.Address{
			Addr: ap, Health: e.Health, Priority: e.Priority, Weight: e.Weight, Region: e.Region, Zone: e.Zone, SubZone: e.SubZone,
		})
	}
	return endpoints.NewAddresses(list)
}
