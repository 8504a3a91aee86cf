package record

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"kiln/guest-agent/internal/mux"
)

// Type says what lies at a path.
type Type string

// What can lie at a path.
const (
	File     Type = "file"
	Folder   Type = "folder"
	Symlink  Type = "symlink"
	Hardlink Type = "hardlink"
)

const (
	maxTarget = 4096
	maxMode   = 0o7777
	// Capability is the one attribute outside of `user.` that is saved.
	Capability = "security.capability"
	userPrefix = "user."
)

// ID names a chunk by its content.
type ID [32]byte

// Piece is a part of a file: a chunk, or a hole, which is read as zeros and is not stored.
type Piece struct {
	ID    ID
	Bytes int64
	Hole  bool
}

// Node is what a workspace has at one path. Which fields count depends on the type.
type Node struct {
	Path     string
	Type     Type
	Mode     uint16
	UID, GID uint32
	Mtime    Time
	Size     int64
	Pieces   []Piece
	// Target is the text of a symlink, or the path whose file a hard link shares.
	Target string
	Xattrs map[string]string
}

// Equal returns whether both are the same in every field.
func (n *Node) Equal(other *Node) bool {
	return n.Path == other.Path && n.Type == other.Type && n.Mode == other.Mode && n.UID == other.UID &&
		n.GID == other.GID && n.Mtime == other.Mtime && n.Size == other.Size && n.Target == other.Target &&
		slices.Equal(n.Pieces, other.Pieces) && maps.Equal(n.Xattrs, other.Xattrs)
}

// MarshalJSON writes a piece as `["<id>", bytes]`, a hole with an empty id.
func (p Piece) MarshalJSON() ([]byte, error) {
	if p.Hole {
		return fmt.Appendf(nil, `["",%d]`, p.Bytes), nil
	}
	return fmt.Appendf(nil, `["%x",%d]`, p.ID[:], p.Bytes), nil
}

// UnmarshalJSON reads what MarshalJSON has written.
func (p *Piece) UnmarshalJSON(text []byte) error {
	var parts []json.RawMessage
	var id string
	if err := json.Unmarshal(text, &parts); err != nil || len(parts) != 2 {
		return errors.New("a chunk is an id and a size")
	}
	if err := errors.Join(json.Unmarshal(parts[0], &id), json.Unmarshal(parts[1], &p.Bytes)); err != nil {
		return err
	}
	if p.Hole = id == ""; p.Hole {
		return nil
	}
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != len(p.ID) || strings.ToLower(id) != id {
		return errors.New("a chunk id has 64 hex digits")
	}
	copy(p.ID[:], raw)
	return nil
}

// form is a node as JSON. A pointer tells a field that is absent from one that is zero.
type form struct {
	Path    []byte            `json:"path"`
	Type    Type              `json:"type"`
	Mode    *uint32           `json:"mode,omitempty"`
	UID     *uint32           `json:"uid,omitempty"`
	GID     *uint32           `json:"gid,omitempty"`
	MtimeNs *string           `json:"mtimeNs,omitempty"`
	Size    *int64            `json:"size,omitempty"`
	Chunks  *[]Piece          `json:"chunks,omitempty"`
	Target  []byte            `json:"target,omitempty"`
	Xattrs  map[string][]byte `json:"xattrs,omitempty"`
}

// Encode returns the payload of an entry record.
func Encode(n *Node) ([]byte, error) {
	f := form{Path: []byte(n.Path), Type: n.Type}
	if n.Type == Symlink || n.Type == Hardlink {
		f.Target = []byte(n.Target)
	}
	if n.Type != Hardlink {
		mtime := n.Mtime.decimal()
		f.UID, f.GID, f.MtimeNs = &n.UID, &n.GID, &mtime
	}
	if n.Type == File || n.Type == Folder {
		mode := uint32(n.Mode)
		f.Mode = &mode
		f.Xattrs = make(map[string][]byte, len(n.Xattrs))
		for name, value := range n.Xattrs {
			f.Xattrs[name] = []byte(value)
		}
	}
	if n.Type == File {
		pieces := n.Pieces
		if pieces == nil {
			pieces = []Piece{}
		}
		f.Size, f.Chunks = &n.Size, &pieces
	}
	return json.Marshal(f)
}

// Decode reads the payload of an entry record. Anything that Encode would not write for a node of a workspace is
// SPEC_INVALID.
func Decode(payload []byte) (Node, error) {
	var f form
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&f); err != nil {
		return Node{}, invalid("an entry is not understood: " + err.Error())
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Node{}, invalid("something follows an entry")
	}
	path := string(f.Path)
	if f.Path == nil || (path != "" && !ValidPath(path)) {
		return Node{}, invalid(fmt.Sprintf("an entry has the path %.100q", path))
	}
	if why := f.wrong(path); why != "" {
		return Node{}, invalid(fmt.Sprintf("entry %.200q: %s", path, why))
	}
	return f.node(path), nil
}

func invalid(why string) error { return mux.Fail("SPEC_INVALID", why) }

// wrong returns what is wrong with the fields, or nothing.
func (f *form) wrong(path string) string {
	hasOwner := f.UID != nil && f.GID != nil && f.MtimeNs != nil
	hasNoOwner := f.UID == nil && f.GID == nil && f.MtimeNs == nil
	hasContent, hasNoContent := f.Size != nil && f.Chunks != nil, f.Size == nil && f.Chunks == nil
	var fits bool
	switch f.Type {
	case File:
		fits = path != "" && f.Mode != nil && hasOwner && hasContent && f.Target == nil
	case Folder:
		fits = f.Mode != nil && hasOwner && hasNoContent && f.Target == nil
	case Symlink:
		fits = path != "" && f.Mode == nil && hasOwner && hasNoContent && f.Target != nil && f.Xattrs == nil
	case Hardlink:
		fits = f.Mode == nil && hasNoOwner && hasNoContent && f.Target != nil && f.Xattrs == nil
	default:
		return "unknown type"
	}
	switch {
	case !fits:
		return "its fields are not those of its type"
	case f.Mode != nil && *f.Mode > maxMode:
		return "mode out of range"
	case hasOwner && (*f.UID == math.MaxUint32 || *f.GID == math.MaxUint32):
		return "owner out of range"
	case f.Type == File && !sums(*f.Chunks, *f.Size):
		return "its chunks do not make up its size"
	case f.Type == Symlink && !validTarget(f.Target):
		return "impossible target"
	case f.Type == Hardlink && (!ValidPath(string(f.Target)) || string(f.Target) >= path):
		return "the target of a hard link is a path before its own"
	}
	return f.wrongDetail(hasOwner)
}

func (f *form) wrongDetail(hasOwner bool) string {
	if hasOwner {
		if _, isTime := parseTime(*f.MtimeNs); !isTime {
			return "mtimeNs is no time"
		}
	}
	for name := range f.Xattrs {
		if !ValidXattr(name) {
			return fmt.Sprintf("attribute %.100q", name)
		}
	}
	return ""
}

func validTarget(target []byte) bool {
	return len(target) > 0 && len(target) <= maxTarget && !bytes.ContainsRune(target, 0)
}

// sums returns whether pieces of allowed sizes have this size together.
func sums(pieces []Piece, size int64) bool {
	left := size
	for _, piece := range pieces {
		if piece.Bytes < 1 || piece.Bytes > left || (!piece.Hole && piece.Bytes > MaxChunk) {
			return false
		}
		left -= piece.Bytes
	}
	return left == 0
}

// ValidXattr returns whether an extended attribute of this name is saved.
func ValidXattr(name string) bool {
	if len(name) > maxName || strings.ContainsRune(name, 0) {
		return false
	}
	return name == Capability || (strings.HasPrefix(name, userPrefix) && len(name) > len(userPrefix))
}

// node returns the node of a form in which nothing is wrong.
func (f *form) node(path string) Node {
	n := Node{Path: path, Type: f.Type, Target: string(f.Target)}
	if f.Mode != nil {
		n.Mode = uint16(*f.Mode)
	}
	if f.MtimeNs != nil {
		n.UID, n.GID = *f.UID, *f.GID
		n.Mtime, _ = parseTime(*f.MtimeNs)
	}
	if f.Chunks != nil {
		n.Size, n.Pieces = *f.Size, *f.Chunks
	}
	for name, value := range f.Xattrs {
		if n.Xattrs == nil {
			n.Xattrs = make(map[string]string, len(f.Xattrs))
		}
		n.Xattrs[name] = string(value)
	}
	return n
}
