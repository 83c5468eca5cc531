package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// What stands in YAML without quotes: what no reader takes for something else, nor one of
// YAML 1.1 for a truth value. Between double quotes, what printing escapes means the same.
var (
	plainWords = regexp.MustCompile(`^[A-Za-z/_][A-Za-z0-9/_.@+-]*( [A-Za-z0-9/_.@+-]+)*$`)
	notWords   = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|true|false|null)$`)
)

// yamlOf is a JSON document as YAML, its fields in the same order.
func yamlOf(text []byte) (string, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	top, err := yamlNode(d)
	if err != nil {
		return "", fmt.Errorf("reading a document: %w", err)
	}
	var b strings.Builder
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(top); err != nil {
		return "", fmt.Errorf("writing YAML: %w", err)
	}
	return b.String(), e.Close()
}

// yamlNode reads one value of JSON.
func yamlNode(d *json.Decoder) (*yaml.Node, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	scalar := func(tag, value string) (*yaml.Node, error) {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}, nil
	}
	switch t := t.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		if t == '[' {
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		}
		for d.More() { // in an object, names and values by turns
			v, err := yamlNode(d)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, v)
		}
		if len(n.Content) == 0 {
			n.Style = yaml.FlowStyle
		}
		_, err := d.Token() // its end
		return n, err
	case string:
		n, err := scalar("!!str", t)
		if !plainWords.MatchString(t) || notWords.MatchString(t) {
			n.Style = yaml.DoubleQuotedStyle
		}
		return n, err
	case json.Number:
		if strings.ContainsAny(t.String(), ".eE") {
			return scalar("!!float", t.String())
		}
		return scalar("!!int", t.String())
	case bool:
		return scalar("!!bool", fmt.Sprint(t))
	}
	return scalar("!!null", "null")
}
