package archive

import (
	"archive/tar"
	"bufio"
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

// chunkBytes is how much is collected before it is written: otherwise each header and each small file would be a frame
// of its own.
const chunkBytes = 32 * 1024

type packer struct {
	out     *tar.Writer
	exclude []string
	seen    map[string]bool
	buffer  []byte
}

// Pack writes paths (relative to dir; none = everything) as a tar: sorted, owned by root, one fixed time. A pattern of
// exclude without a slash matches a base name at any depth, one with a slash the path below dir; both may have the
// wildcards of path.Match. Sockets, pipes and devices are left out.
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
	chunks := bufio.NewWriterSize(target, chunkBytes)
	p := &packer{out: tar.NewWriter(chunks), exclude: exclude, seen: map[string]bool{}, buffer: make([]byte, 64*1024)}
	if len(paths) == 0 {
		paths = []string{"."}
	}
	for _, wanted := range paths {
		if err := p.wanted(root, wanted); err != nil {
			return err
		}
	}
	if err := p.out.Close(); err != nil {
		return failed(err)
	}
	return failed(chunks.Flush())
}

func (p *packer) wanted(root *os.Root, wanted string) error {
	name, err := cleanName(wanted)
	if err != nil {
		return err
	}
	if name == "." {
		return p.children(root, "")
	}
	info, err := root.Lstat(name)
	if err != nil {
		return failed(err)
	}
	return p.tree(root, name, name, info.Mode().Type())
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

// children packs what is in a folder, in the order of names.
func (p *packer) children(dir *os.Root, prefix string) error {
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return failed(err)
	}
	for _, entry := range entries {
		if err := p.tree(dir, entry.Name(), prefix+entry.Name(), entry.Type()); err != nil {
			return err
		}
	}
	return nil
}

// tree packs the entry `at` of a folder, and everything below it. In the archive it is called name.
func (p *packer) tree(dir *os.Root, at, name string, kind fs.FileMode) error {
	if p.excluded(name) || p.seen[name] {
		return nil
	}
	p.seen[name] = true
	switch kind {
	case fs.ModeDir:
		return p.folder(dir, at, name)
	case fs.ModeSymlink:
		target, err := dir.Readlink(at)
		if err != nil {
			return failed(err)
		}
		return p.header(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
	case 0:
		return p.file(dir, at, name)
	}
	return nil
}

func (p *packer) header(header *tar.Header) error {
	header.ModTime = entryTime
	return failed(p.out.WriteHeader(header))
}

func (p *packer) folder(dir *os.Root, at, name string) error {
	below, err := dir.OpenRoot(at)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = below.Close() }()
	info, err := below.Stat(".")
	if err != nil {
		return failed(err)
	}
	if err := p.header(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: int64(info.Mode().Perm())}); err != nil {
		return err
	}
	return p.children(below, name+"/")
}

func (p *packer) file(dir *os.Root, at, name string) error {
	file, err := dir.Open(at)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return failed(err)
	}
	size := info.Size()
	if err := p.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: int64(info.Mode().Perm())}); err != nil {
		return err
	}
	written, err := io.CopyBuffer(plain{p.out}, io.LimitReader(file, size), p.buffer)
	if err != nil {
		return failed(err)
	}
	if written != size {
		return mux.Fail("CONFLICT", name+" became shorter while it was packed")
	}
	return nil
}
