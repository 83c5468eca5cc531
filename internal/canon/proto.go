package canon

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Proto returns the canonical JSON of a message: proto field names (as Envoy's
// documentation spells them), Any payloads expanded. It fails if an Any holds
// a type that is not linked in, and for text that is not UTF-8.
//
// It is the form of what protojson gives, written in one pass: most of what a release
// takes to compile is this text. protojson itself is asked for the messages whose JSON is
// none of an object with their fields.
func Proto(m proto.Message) ([]byte, error) {
	w := protoWriter{}
	if err := w.message(m.ProtoReflect(), 0); err != nil {
		return nil, fmt.Errorf("encoding %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return append(w.out, '\n'), nil
}

// protoWriter writes messages.
type protoWriter struct {
	out []byte
	// set is a stack: the fields of the open messages.
	set []setField
}

type setField struct {
	name  string
	field protoreflect.FieldDescriptor // nil: text stands for the value
	value protoreflect.Value
	text  string
}

func (w *protoWriter) line(depth int) {
	w.out = append(w.out, '\n')
	for range depth {
		w.out = append(w.out, ' ', ' ')
	}
}

func (w *protoWriter) message(m protoreflect.Message, depth int) error {
	if isObject(m) {
		return w.object(m, "", depth)
	}
	if a, ok := m.Interface().(*anypb.Any); ok && a.GetTypeUrl() != "" {
		held, err := a.UnmarshalNew()
		if err != nil {
			return fmt.Errorf("reading an Any: %w", err)
		}
		if isObject(held.ProtoReflect()) {
			return w.object(held.ProtoReflect(), a.GetTypeUrl(), depth)
		}
	}
	return w.asked(m, depth)
}

// isObject reports whether a message's JSON is an object with the fields that its type names.
func isObject(m protoreflect.Message) bool {
	d := m.Descriptor()
	return d.ParentFile().Package() != "google.protobuf" && d.ExtensionRanges().Len() == 0
}

// asked writes what protojson gives for the message.
func (w *protoWriter) asked(m protoreflect.Message, depth int) error {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m.Interface())
	if err != nil {
		return fmt.Errorf("encoding %s: %w", m.Descriptor().FullName(), err)
	}
	f := formatter{src: raw, out: w.out}
	err = f.value(depth)
	w.out = f.out
	return err
}

// object writes a message's fields, and its type if it is held by an Any.
func (w *protoWriter) object(m protoreflect.Message, typeURL string, depth int) error {
	first := len(w.set)
	defer func() { w.set = w.set[:first] }()
	if typeURL != "" {
		w.set = append(w.set, setField{name: "@type", text: typeURL})
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		w.set = append(w.set, setField{name: f.TextName(), field: f, value: v})
		return true
	})
	slices.SortFunc(w.set[first:], func(a, b setField) int { return strings.Compare(a.name, b.name) })
	w.out = append(w.out, '{')
	last := len(w.set)
	for i := first; i < last; i++ {
		if i > first {
			w.out = append(w.out, ',')
		}
		w.line(depth + 1)
		w.out = append(append(append(w.out, '"'), w.set[i].name...), '"', ':', ' ')
		if err := w.field(w.set[i], depth+1); err != nil {
			return err
		}
	}
	if last > first {
		w.line(depth)
	}
	w.out = append(w.out, '}')
	return nil
}

func (w *protoWriter) field(f setField, depth int) error {
	switch {
	case f.field == nil:
		return w.text(f.text)
	case f.field.IsList():
		return w.list(f.field, f.value.List(), depth)
	case f.field.IsMap():
		return w.mapping(f.field, f.value.Map(), depth)
	}
	return w.single(f.field, f.value, depth)
}

func (w *protoWriter) list(f protoreflect.FieldDescriptor, l protoreflect.List, depth int) error {
	w.out = append(w.out, '[')
	for i := range l.Len() {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		w.line(depth + 1)
		if err := w.single(f, l.Get(i), depth+1); err != nil {
			return err
		}
	}
	if l.Len() > 0 {
		w.line(depth)
	}
	w.out = append(w.out, ']')
	return nil
}

func (w *protoWriter) mapping(f protoreflect.FieldDescriptor, m protoreflect.Map, depth int) error {
	type entry struct {
		key   string
		value protoreflect.Value
	}
	entries := make([]entry, 0, m.Len())
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		entries = append(entries, entry{k.String(), v})
		return true
	})
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.key, b.key) })
	w.out = append(w.out, '{')
	for i, e := range entries {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		w.line(depth + 1)
		if err := w.text(e.key); err != nil {
			return err
		}
		w.out = append(w.out, ':', ' ')
		if err := w.single(f.MapValue(), e.value, depth+1); err != nil {
			return err
		}
	}
	if len(entries) > 0 {
		w.line(depth)
	}
	w.out = append(w.out, '}')
	return nil
}

// single writes a value as the mapping of protobuf to JSON has it.
func (w *protoWriter) single(f protoreflect.FieldDescriptor, v protoreflect.Value, depth int) error {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return w.message(v.Message(), depth)
	case protoreflect.StringKind:
		return w.text(v.String())
	case protoreflect.BoolKind:
		w.out = strconv.AppendBool(w.out, v.Bool())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		w.out = strconv.AppendInt(w.out, v.Int(), 10)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		w.out = strconv.AppendUint(w.out, v.Uint(), 10)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		w.out = append(strconv.AppendInt(append(w.out, '"'), v.Int(), 10), '"')
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		w.out = append(strconv.AppendUint(append(w.out, '"'), v.Uint(), 10), '"')
	case protoreflect.BytesKind:
		w.out = append(base64.StdEncoding.AppendEncode(append(w.out, '"'), v.Bytes()), '"')
	case protoreflect.EnumKind:
		switch e := f.Enum().Values().ByNumber(v.Enum()); {
		case f.Enum().FullName() == "google.protobuf.NullValue":
			w.out = append(w.out, "null"...)
		case e != nil:
			w.out = append(append(append(w.out, '"'), e.Name()...), '"')
		default:
			w.out = strconv.AppendInt(w.out, int64(v.Enum()), 10)
		}
	case protoreflect.FloatKind:
		return w.float(v.Float(), float32(v.Float()))
	case protoreflect.DoubleKind:
		return w.float(v.Float(), v.Float())
	}
	return nil
}

// float writes a number of one of the two sizes, spelt as encoding/json does.
func (w *protoWriter) float(x float64, sized any) error {
	switch {
	case math.IsNaN(x):
		w.out = append(w.out, `"NaN"`...)
		return nil
	case math.IsInf(x, 1):
		w.out = append(w.out, `"Infinity"`...)
		return nil
	case math.IsInf(x, -1):
		w.out = append(w.out, `"-Infinity"`...)
		return nil
	}
	b, err := json.Marshal(sized)
	if err != nil {
		return fmt.Errorf("encoding %v: %w", x, err)
	}
	w.out = append(w.out, b...)
	return nil
}

func (w *protoWriter) text(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%q is not UTF-8", s)
	}
	var err error
	w.out, err = appendText(w.out, s)
	return err
}
