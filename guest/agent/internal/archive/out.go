package archive

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"kiln/guest-agent/internal/mux"
)

// entryTime is the time of every packed entry, so that equal content is equal bytes. Not 1970: zip tools refuse years
// before 1980.
var entryTime = time.Unix(499162500, 0)

type packer struct {
	root    *os.Root
	out     *tar.Writer
	exclude []string
	seen    map[string]bool
	buffer  []byte
}

// Pack writes paths (relative to dir; none = everything) as a tar: sorted, owned by root, one fixed time. A pattern of
// exclude without a slash fits a base name anywhere, one with a slash the path below dir; both may hold the wildcards
// of path.Match. Sockets, pipes and devices are left out.
func Pack(dir string, paths, exclude []string, target io.Writer) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = root.Close() }()
	for _, pattern := range exclude {
		if _, err := path.Match(pattern, ""); err != nil {
			return mux.Fail("SPEC_INVALID", fmt.Sprintf("exclude pattern %q is malformed", pattern))
		}
	}
	p := &packer{root: root, out: tar.NewWriter(target), exclude: exclude, seen: map[string]bool{}, buffer: make([]byte, 64*1024)}
	if len(paths) == 0 {
		paths = []string{"."}
	}
	for _, wanted := range paths {
		name, err := cleanName(wanted)
		if err != nil {
			return err
		}
		if err := p.tree(name); err != nil {
			return err
		}
	}
	return failed(p.out.Close())
}

func (p *packer) excluded(name string) bool {
	for _, pattern := range p.exclude {
		subject := name
		if !strings.Contains(pattern, "/") {
			subject = path.Base(name)
		}
		if fits, _ := path.Match(strings.Trim(pattern, "/"), subject); fits {
			return true
		}
	}
	return false
}

// tree packs a name and, where it is a folder, what is below, in the order of names.
func (p *packer) tree(name string) error {
	if name != "." && (p.excluded(name) || p.seen[name]) {
		return nil
	}
	info, err := p.root.Lstat(name)
	if err != nil {
		return failed(err)
	}
	p.seen[name] = true
	if name != "." {
		if err := p.entry(name, info); err != nil {
			return err
		}
	}
	if !info.IsDir() {
		return nil
	}
	entries, err := fs.ReadDir(p.root.FS(), name)
	if err != nil {
		return failed(err)
	}
	for _, entry := range entries {
		if err := p.tree(path.Join(name, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) entry(name string, info fs.FileInfo) error {
	header := &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), ModTime: entryTime}
	switch {
	case info.IsDir():
		header.Typeflag = tar.TypeDir
		header.Name += "/"
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := p.root.Readlink(name)
		if err != nil {
			return failed(err)
		}
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, target, 0o777
	case info.Mode().IsRegular():
		return p.file(header)
	default:
		return nil
	}
	return failed(p.out.WriteHeader(header))
}

func (p *packer) file(header *tar.Header) error {
	file, err := p.root.Open(header.Name)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return failed(err)
	}
	header.Typeflag, header.Size = tar.TypeReg, info.Size()
	if err := p.out.WriteHeader(header); err != nil {
		return failed(err)
	}
	written, err := io.CopyBuffer(plain{p.out}, io.LimitReader(file, header.Size), p.buffer)
	if err != nil {
		return failed(err)
	}
	if written != header.Size {
		return mux.Fail("CONFLICT", fmt.Sprintf("%s became shorter while it was packed", header.Name))
	}
	return nil
}
