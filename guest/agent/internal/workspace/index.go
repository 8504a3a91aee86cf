package workspace

import (
	"slices"
	"strings"

	"kiln/guest-agent/internal/workspace/beneath"
	"kiln/guest-agent/internal/workspace/record"
)

// remembered is what an index knows of one path.
type remembered struct {
	tuple beneath.Tuple
	node  record.Node
	// settled is set if any later change of what lies here gives it another tuple. It is not where the change before was
	// so recent that the clock of the file system may not tell it from the next one, or where the file changed while it
	// was read: then it is read again.
	settled bool
}

// index is what was saved last, in the order of paths.
type index struct {
	subject subject
	saveID  string
	paths   []remembered
}

// ids returns the ids of all chunks.
func (i *index) ids() map[record.ID]struct{} {
	known := map[record.ID]struct{}{}
	for at := range i.paths {
		for _, piece := range i.paths[at].node.Pieces {
			if !piece.Hole {
				known[piece.ID] = struct{}{}
			}
		}
	}
	return known
}

// file returns the regular file at a path, or nil.
func (i *index) file(path string) *remembered {
	at, found := slices.BinarySearchFunc(i.paths, path, func(r remembered, path string) int {
		return strings.Compare(r.node.Path, path)
	})
	if !found || i.paths[at].node.Type != record.File {
		return nil
	}
	return &i.paths[at]
}

// cursor goes through the paths of an index in step with a walk.
type cursor struct {
	left []remembered
}

// passed returns the next path that comes before another one, and goes on; false if there is none. The walk has not come
// by it, so it is gone.
func (c *cursor) passed(path string) (string, bool) {
	if len(c.left) == 0 || c.left[0].node.Path >= path {
		return "", false
	}
	return c.next(), true
}

// next returns the next path, and goes on.
func (c *cursor) next() string {
	path := c.left[0].node.Path
	c.left = c.left[1:]
	return path
}

// at returns what is remembered of a path that all others before were passed for, or nil.
func (c *cursor) at(path string) *remembered {
	if len(c.left) == 0 || c.left[0].node.Path != path {
		return nil
	}
	return &c.left[0]
}
