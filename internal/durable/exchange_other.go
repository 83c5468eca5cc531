//go:build !linux && !darwin

package durable

import "errors"

// exchange is not known here.
func exchange(_, _ string) error { return errors.ErrUnsupported }
