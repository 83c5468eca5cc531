package webhook

import (
	"io/fs"
	"testing/fstest"
)

// userPolicy is a user's own policy folder, nil for an empty text.
func userPolicy(text string) fs.FS {
	if text == "" {
		return nil
	}
	return fstest.MapFS{"own.rego": &fstest.MapFile{Data: []byte(text)}}
}
