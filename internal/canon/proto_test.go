package canon

import (
	"bytes"
	"math"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"pgregory.net/rapid"
)

// byProtojson is the definition: what protojson gives, in its one form.
func byProtojson(m proto.Message) ([]byte, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	return Reformat(raw)
}

// Whatever the message, Proto gives the form of what protojson gives, and fails where it does.
func TestProtoIsProtojson(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kinds := []proto.Message{&clusterv3.Cluster{}, &routev3.RouteConfiguration{}, &listenerv3.Listener{}, &corev3.Node{}, &structpb.Struct{}, &structpb.Value{}, &anypb.Any{}}
		m := rapid.SampledFrom(kinds).Draw(t, "kind").ProtoReflect().New()
		fill(t, m, 4)
		want, errWant := byProtojson(m.Interface())
		got, errGot := Proto(m.Interface())
		if (errWant == nil) != (errGot == nil) {
			t.Fatalf("%v: error %v, want %v", m, errGot, errWant)
		}
		if errWant == nil && !bytes.Equal(got, want) {
			t.Fatalf("got\n%s, want\n%s", got, want)
		}
	})
}

// fill sets some fields of a message at random.
func fill(t *rapid.T, m protoreflect.Message, depth int) {
	switch x := m.Interface().(type) {
	case *anypb.Any:
		held := rapid.SampledFrom([]proto.Message{&corev3.SocketAddress{}, durationpb.New(1500), wrapperspb.UInt32(3), &structpb.Struct{}, &anypb.Any{}, nil}).Draw(t, "held")
		if held == nil {
			x.TypeUrl = rapid.SampledFrom([]string{"", "type.googleapis.com/none.There", "odd"}).Draw(t, "type")
			return
		}
		held = proto.Clone(held)
		if depth > 0 {
			fill(t, held.ProtoReflect(), depth-1)
		}
		if err := x.MarshalFrom(held); err != nil {
			x.TypeUrl = "odd"
		}
		return
	case *durationpb.Duration:
		x.Seconds = rapid.Int64Range(0, 1<<40).Draw(t, "seconds")
		return
	}
	fields := m.Descriptor().Fields()
	if fields.Len() == 0 {
		return
	}
	for range rapid.IntRange(0, 6).Draw(t, "fields") {
		f := fields.Get(rapid.IntRange(0, fields.Len()-1).Draw(t, "field"))
		of := f
		if f.IsMap() {
			of = f.MapValue()
		}
		if of.Message() != nil && depth == 0 {
			continue
		}
		switch {
		case f.IsMap():
			mm := m.Mutable(f).Map()
			for range rapid.IntRange(0, 3).Draw(t, "entries") {
				mm.Set(single(t, f.MapKey(), nil, depth).MapKey(), single(t, of, mm.NewValue, depth))
			}
		case f.IsList():
			l := m.Mutable(f).List()
			for range rapid.IntRange(0, 3).Draw(t, "elements") {
				l.Append(single(t, f, l.NewElement, depth))
			}
		default:
			m.Set(f, single(t, f, func() protoreflect.Value { return m.NewField(f) }, depth))
		}
	}
}

func single(t *rapid.T, f protoreflect.FieldDescriptor, fresh func() protoreflect.Value, depth int) protoreflect.Value {
	number := rapid.OneOf(rapid.Int64(), rapid.Int64Range(-2, 9)).Draw(t, "number")
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		v := fresh()
		fill(t, v.Message(), depth-1)
		return v
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(rapid.OneOf(rapid.StringMatching(`[a-z./"\\<&-]{0,8}`), rapid.String(), rapid.Just("\u2028é\x00\x7f"), rapid.Just("\xff")).Draw(t, "text"))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(rapid.String().Draw(t, "bytes")))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(number%2 == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(int32(number)))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(number))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(number)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(number))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(rapid.OneOf(rapid.Float32(), rapid.Just(float32(math.Inf(1))), rapid.Just(float32(math.NaN()))).Draw(t, "float"))
	default:
		return protoreflect.ValueOfFloat64(rapid.OneOf(rapid.Float64(), rapid.Just(math.Inf(-1)), rapid.Just(math.NaN()), rapid.Just(100.0), rapid.Just(1e21)).Draw(t, "double"))
	}
}
