// Package workspace saves a folder as records and restores it from them (docs/agent-workspace.md). It remembers what it
// saved last, so that the next save reads and sends only what has changed since.
package workspace

import (
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/workspace/beneath"
)

// Limits are what one workspace may hold at most.
type Limits struct {
	Entries int
	// Bytes bounds the sum of the sizes of the files, holes included.
	Bytes int64
}

// DefaultLimits are far above what a workspace holds, and low enough that a guest's memory can hold the index.
var DefaultLimits = Limits{Entries: 2_000_000, Bytes: 64 << 30}

// Host is the stream of one request.
type Host interface {
	io.ReadWriter
	// Gone is closed once nobody waits for the request any more.
	Gone() <-chan struct{}
	// Opened tells the host that the request is accepted.
	Opened(value any) error
	// Done answers the request.
	Done(value any) error
}

// Request is what a host asks for.
type Request struct {
	// Path is the folder, absolute.
	Path   string
	SaveID string
	// BaseSaveID names the save that this one builds on. It is empty if there is none.
	BaseSaveID string
	// SaltHex is what all ids of chunks are mixed with: 32 bytes.
	SaltHex string
}

// Keeper saves and restores one workspace, one request at a time.
type Keeper struct {
	limits Limits
	now    func() time.Time
	// tellEvery is how long the host of a request hears nothing, at most.
	tellEvery time.Duration
	// leaseWait is how long a save waits for a file that a process of the guest has leased.
	leaseWait time.Duration

	mu      sync.Mutex
	current *job
	index   *index
}

// job is the request that is being served.
type job struct {
	gone <-chan struct{}
	over chan struct{}
}

// NewKeeper makes a keeper that has saved nothing. now is the clock that the times of files come from.
func NewKeeper(limits Limits, now func() time.Time) *Keeper {
	return &Keeper{limits: limits, now: now, tellEvery: time.Second, leaseWait: 2 * time.Second}
}

const (
	saltBytes = 32
	maxID     = 100
	idLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
)

func isID(id string) bool { return id != "" && len(id) <= maxID && strings.Trim(id, idLetters) == "" }

// subject is what an index belongs to: chunk ids of another salt, or paths of another folder, say nothing.
type subject struct {
	path string
	salt [saltBytes]byte
}

func (r Request) subject() (subject, error) {
	s := subject{path: r.Path}
	if !strings.HasPrefix(r.Path, "/") || strings.ContainsRune(r.Path, 0) {
		return s, mux.Fail("SPEC_INVALID", "the path of a workspace is absolute")
	}
	if !isID(r.SaveID) || (r.BaseSaveID != "" && !isID(r.BaseSaveID)) {
		return s, mux.Fail("SPEC_INVALID", "the id of a save has 1 to 100 letters, digits, dots, dashes or underscores")
	}
	salt, err := hex.DecodeString(r.SaltHex)
	if err != nil || len(salt) != saltBytes {
		return s, mux.Fail("SPEC_INVALID", "the salt has 64 hex digits")
	}
	copy(s.salt[:], salt)
	return s, nil
}

// serve opens the folder of a request and does what it asks, while no other request is served.
func (k *Keeper) serve(request Request, gone <-chan struct{}, work func(job *job, subject subject, root int) error) error {
	subject, err := request.subject()
	if err != nil {
		return err
	}
	job, err := k.begin(gone)
	if err != nil {
		return err
	}
	defer k.end(job)
	root, err := open(request.Path)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(root) }()
	return work(job, subject, root)
}

// begin makes a request the current one. Another one that somebody still waits for is a CONFLICT; one that nobody waits
// for ends within a moment, and this waits for that.
func (k *Keeper) begin(gone <-chan struct{}) (*job, error) {
	for {
		k.mu.Lock()
		running := k.current
		if running == nil {
			k.current = &job{gone: gone, over: make(chan struct{})}
			defer k.mu.Unlock()
			return k.current, nil
		}
		k.mu.Unlock()
		select {
		case <-running.gone:
		case <-running.over:
			continue
		default:
			return nil, mux.Fail("CONFLICT", "a workspace is being saved or restored")
		}
		select {
		case <-running.over:
		case <-gone:
			return nil, mux.ErrGone
		}
	}
}

// end lets the next request begin. It may be called again.
func (k *Keeper) end(j *job) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current == j {
		k.current = nil
		close(j.over)
	}
}

// commit makes an index the one of the last save, and ends its request before the host is answered, since the host may
// ask for the next save at once. If the answer cannot be sent, the host does not know of this save: the index before it
// counts again.
func (k *Keeper) commit(j *job, made *index, answer func() error) error {
	k.mu.Lock()
	before := k.index
	k.index = made
	k.mu.Unlock()
	k.end(j)
	err := answer()
	if err != nil {
		k.mu.Lock()
		if k.index == made {
			k.index = before
		}
		k.mu.Unlock()
	}
	return err
}

// check fails once nobody waits for the request any more.
func (j *job) check() error {
	select {
	case <-j.gone:
		return mux.ErrGone
	default:
		return nil
	}
}

// open opens the folder of a workspace.
func open(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return -1, mux.Fail("NOT_FOUND", "there is no folder "+path)
	case errors.Is(err, unix.ENOTDIR):
		return -1, mux.Fail("SPEC_INVALID", path+" is no folder")
	}
	return fd, beneath.Failed(path, err)
}
