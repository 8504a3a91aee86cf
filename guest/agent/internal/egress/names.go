// Package egress lets guest programs connect to the outside by name. Its resolver answers each name with a loopback
// address, and its listeners turn a connection to such an address into a stream to the host. Only the host decides what
// is allowed.
package egress

import (
	"net/netip"
	"strings"
	"sync"
)

const maxNames = 1 << 16

// Names gives each name that was asked for an address of its own in 127.128.0.0/9.
type Names struct {
	mu     sync.Mutex
	byName map[string]netip.Addr
	byAddr map[netip.Addr]string
}

// NewNames makes an empty table.
func NewNames() *Names {
	return &Names{byName: map[string]netip.Addr{}, byAddr: map[netip.Addr]string{}}
}

// Address returns the address of a name, the same one each time. It returns false if the name is not a host name or the
// table is full.
func (n *Names) Address(name string) (netip.Addr, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if !validName(name) {
		return netip.Addr{}, false
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if known, found := n.byName[name]; found {
		return known, true
	}
	count := len(n.byName) + 1
	if count >= maxNames {
		return netip.Addr{}, false
	}
	addr := netip.AddrFrom4([4]byte{127, 128, byte(count >> 8), byte(count)})
	n.byName[name] = addr
	n.byAddr[addr] = name
	return addr, true
}

// Name returns the name to which an address was given.
func (n *Names) Name(addr netip.Addr) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	name, found := n.byAddr[addr.Unmap()]
	return name, found
}

func validName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
