package workspace

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"

	chunkers "github.com/PlakarKorp/go-cdc-chunkers"
	// It registers the algorithm.
	_ "github.com/PlakarKorp/go-cdc-chunkers/chunkers/fastcdc"
	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/workspace/beneath"
	"kiln/guest-agent/internal/workspace/record"
)

const (
	// algorithm is the form of FastCDC whose masks follow the wanted size; the library's `fastcdc` cuts about every 8 KiB
	// whatever it is told.
	algorithm = "fastcdc-v1.0.0"
	minChunk  = 64 << 10
	meanChunk = 256 << 10
	// maxWhole is the size up to which a file is one chunk.
	maxWhole = 256 << 10
	// minHole is the size from which a hole is told from zeros.
	minHole = 64 << 10
	// maxPieces is above what an entry can hold: a piece takes at least 7 bytes of JSON, a chunk 70.
	maxPieces = record.MaxEntry / 7
)

// identifier computes the ids of chunks.
type identifier struct {
	salt  [saltBytes]byte
	state hash.Hash
}

func newIdentifier(salt [saltBytes]byte) *identifier {
	return &identifier{salt: salt, state: sha256.New()}
}

func (i *identifier) of(content []byte) record.ID {
	i.state.Reset()
	i.state.Write(i.salt[:])
	i.state.Write(content)
	var id record.ID
	i.state.Sum(id[:0])
	return id
}

// cutter cuts files into chunks. It holds one buffer, whatever the size of the files.
type cutter struct {
	ids     *identifier
	buffer  []byte
	chunker *chunkers.Chunker
	// take is called with each chunk; the bytes are valid until it returns.
	take func(id record.ID, content []byte) error
	// read counts the bytes that were read.
	read int64
}

func newCutter(ids *identifier, take func(id record.ID, content []byte) error) (*cutter, error) {
	c := &cutter{ids: ids, buffer: make([]byte, 2*record.MaxChunk), take: take}
	options := &chunkers.ChunkerOpts{MinSize: minChunk, NormalSize: meanChunk, MaxSize: record.MaxChunk}
	var err error
	c.chunker, err = chunkers.NewChunkerBuffer(algorithm, &span{}, options, c.buffer)
	return c, err
}

// cut reads the first size bytes of a file. It returns the pieces and how long they are together, which is less than
// size if the file has become shorter.
func (c *cutter) cut(fd int, size int64) ([]record.Piece, int64, error) {
	if size <= maxWhole {
		return c.whole(fd, size)
	}
	var pieces []record.Piece
	for at := int64(0); at < size; {
		hole, end := extent(fd, at, size)
		if hole > 0 {
			pieces = append(pieces, record.Piece{Bytes: hole, Hole: true})
			at += hole
		}
		chunks, n, err := c.span(&span{fd: fd, at: at, end: end}, maxPieces-len(pieces))
		if err != nil {
			return nil, 0, err
		}
		pieces = append(pieces, chunks...)
		at += n
		if at < end {
			return pieces, at, nil
		}
	}
	return pieces, size, nil
}

func (c *cutter) whole(fd int, size int64) ([]record.Piece, int64, error) {
	n, err := io.ReadFull(&span{fd: fd, end: size}, c.buffer[:size])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, 0, err
	}
	if n == 0 {
		return nil, 0, nil
	}
	piece, err := c.piece(c.buffer[:n])
	return []record.Piece{piece}, int64(n), err
}

// span cuts what lies between two holes.
func (c *cutter) span(source *span, most int) ([]record.Piece, int64, error) {
	var pieces []record.Piece
	var total int64
	c.chunker.Reset(source)
	for {
		content, err := c.chunker.Next()
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, err
		}
		if len(content) > 0 {
			piece, err := c.piece(content)
			if err != nil {
				return nil, 0, err
			}
			pieces = append(pieces, piece)
			total += piece.Bytes
		}
		if err != nil {
			return pieces, total, nil
		}
		if len(pieces) > most {
			return nil, 0, mux.Fail("PAYLOAD_TOO_LARGE", "a file has too many chunks")
		}
	}
}

func (c *cutter) piece(content []byte) (record.Piece, error) {
	id := c.ids.of(content)
	c.read += int64(len(content))
	return record.Piece{ID: id, Bytes: int64(len(content))}, c.take(id, content)
}

// extent returns the length of the hole at an offset, 0 if there is none worth telling, and where the data after it
// ends: at the next hole, or at size.
func extent(fd int, at, size int64) (hole, end int64) {
	data, err := unix.Seek(fd, at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		data = size
	case err != nil:
		// The file system does not tell.
		return 0, size
	}
	data = min(data, size)
	if data-at >= minHole {
		hole = data - at
	}
	for end = data; end < size; {
		gap, err := unix.Seek(fd, end, unix.SEEK_HOLE)
		if err != nil || gap >= size {
			return hole, size
		}
		next, err := unix.Seek(fd, gap, unix.SEEK_DATA)
		if err != nil || next > size {
			next = size
		}
		if next-gap >= minHole {
			return hole, gap
		}
		if next <= end {
			return hole, size
		}
		// A small hole is data.
		end = next
	}
	return hole, end
}

// span is a part of a file as a reader.
type span struct {
	fd      int
	at, end int64
}

func (s *span) Read(p []byte) (int, error) {
	if s.at >= s.end {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.end-s.at)]
	var n int
	err := beneath.Again(func() (err error) {
		n, err = unix.Pread(s.fd, p, s.at)
		return err
	})
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	s.at += int64(n)
	return n, nil
}
