package record

import (
	"encoding/json"
	"strings"
)

const (
	// MaxPath is the length of the longest path below a workspace, in bytes.
	MaxPath = 4096
	maxName = 255
)

// ValidPath returns whether a path is one of something below a workspace: relative, and made of names that a folder can
// hold.
func ValidPath(path string) bool {
	if path == "" || len(path) > MaxPath || strings.ContainsRune(path, 0) {
		return false
	}
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." || name == ".." || len(name) > maxName {
			return false
		}
	}
	return true
}

// Split returns the folder that a path lies in ("" for the workspace itself) and its last name.
func Split(path string) (folder, name string) {
	at := strings.LastIndexByte(path, '/')
	return path[:max(at, 0)], path[at+1:]
}

// EncodeSkipped returns the payload of a skipped record: what lies at path is left out, for what it is.
func EncodeSkipped(path, what string) ([]byte, error) {
	return json.Marshal(struct {
		Path []byte `json:"path"`
		Type string `json:"type"`
	}{[]byte(path), what})
}
