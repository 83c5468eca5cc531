package model

// Meets reports whether one request can be taken by both matches, for the
// purpose of finding conflicts: two different exact values of one header are
// taken as exclusive, because a request has such a header once in all practice,
// and the order by value decides for one that has it twice.
func (x Match) Meets(y Match) bool {
	if _, ok := IntersectMatches(x, y); !ok {
		return false
	}
	return !otherValues(x.Headers, y.Headers)
}

// otherValues reports whether two conditions demand different values under one name.
func otherValues(xs, ys []ValueMatch) bool {
	for _, a := range xs {
		for _, b := range ys {
			if a.Name == b.Name && a.Kind == "exact" && b.Kind == "exact" && !a.Not && !b.Not && a.Value != b.Value {
				return true
			}
		}
	}
	return false
}
