package envoy

import (
	"slices"
	"strings"

	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	exprv1alpha1 "google.golang.org/genproto/googleapis/api/expr/v1alpha1"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// headerPermission is a header as what refuses reads it: some line, or some element of one.
// Envoy's expressions go by letters of UTF-8, and a line may have other bytes: \C is any of them.
func headerPermission(v model.Value) *rbacconfigv3.Permission {
	t := space.Test{Dim: space.HeaderDim(v.Name), Any: space.ElementPatterns(v.Kind, v.Text)}
	h, err := headerMatcher(v.Name, t)
	if err != nil {
		panic("envoy: " + err.Error()) // lines have a form
	}
	if r := h.GetStringMatch().GetSafeRegex(); r != nil {
		r.Regex = strings.NewReplacer(`(?:.*,)?`, `(?:\C*,)?`, `(?:,.*)?`, `(?:,\C*)?`).Replace(r.Regex)
		if v.Kind == space.Prefix {
			r.Regex = strings.TrimSuffix(r.Regex, ".*") + `\C*`
		}
	}
	return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_Header{Header: h}}
}

// onceOrNot is a condition of Envoy's expression language: each of some headers is there once and
// like what is written, and none of others is; nil without any. Matchers of headers look at each
// line by itself, and cannot tell one from two; this sees all of them, joined by commas, which no
// single value has. Of a header that is absent nothing but whether it is there may be asked.
func onceOrNot(all, not []model.Value) *exprv1alpha1.Expr {
	var each []*exprv1alpha1.Expr
	for _, v := range all {
		each = append(each, once(v))
	}
	for _, v := range not {
		each = append(each, apply("!_", once(v)))
	}
	return every(each)
}

func once(v model.Value) *exprv1alpha1.Expr {
	headers := func() *exprv1alpha1.Expr { return selected(ident("request"), "headers") }
	value := func() *exprv1alpha1.Expr { return apply("_[_]", headers(), textOf(v.Name)) }
	is := []*exprv1alpha1.Expr{apply("@in", textOf(v.Name), headers())}
	switch v.Kind {
	case space.Exact:
		return every(append(is, apply("_==_", value(), textOf(v.Text))))
	case space.Prefix:
		is = append(is, method(value(), "startsWith", v.Text))
	default:
	}
	return every(append(is, apply("!_", method(value(), "contains", ","))))
}

// every holds where all do.
func every(all []*exprv1alpha1.Expr) *exprv1alpha1.Expr {
	if len(all) == 0 {
		return nil
	}
	out := all[len(all)-1]
	for _, e := range slices.Backward(all[:len(all)-1]) {
		out = apply("_&&_", e, out)
	}
	return out
}

func ident(name string) *exprv1alpha1.Expr {
	return &exprv1alpha1.Expr{ExprKind: &exprv1alpha1.Expr_IdentExpr{IdentExpr: &exprv1alpha1.Expr_Ident{Name: name}}}
}

func selected(of *exprv1alpha1.Expr, field string) *exprv1alpha1.Expr {
	return &exprv1alpha1.Expr{ExprKind: &exprv1alpha1.Expr_SelectExpr{SelectExpr: &exprv1alpha1.Expr_Select{Operand: of, Field: field}}}
}

func textOf(s string) *exprv1alpha1.Expr {
	return &exprv1alpha1.Expr{ExprKind: &exprv1alpha1.Expr_ConstExpr{ConstExpr: &exprv1alpha1.Constant{ConstantKind: &exprv1alpha1.Constant_StringValue{StringValue: s}}}}
}

func apply(function string, args ...*exprv1alpha1.Expr) *exprv1alpha1.Expr {
	return &exprv1alpha1.Expr{ExprKind: &exprv1alpha1.Expr_CallExpr{CallExpr: &exprv1alpha1.Expr_Call{Function: function, Args: args}}}
}

func method(of *exprv1alpha1.Expr, function, text string) *exprv1alpha1.Expr {
	return &exprv1alpha1.Expr{ExprKind: &exprv1alpha1.Expr_CallExpr{CallExpr: &exprv1alpha1.Expr_Call{Target: of, Function: function, Args: []*exprv1alpha1.Expr{textOf(text)}}}}
}
