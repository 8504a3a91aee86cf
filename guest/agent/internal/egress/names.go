// Package egress gives guest programs the outside world by name: a resolver that hands out loopback addresses, and
// listeners that turn a connection to such an address into a stream to the host, which alone decides.
package egress

import (
	"net/netip"
	"strings"
	"sync"
)

const maxNames = 1 << 16

// Names maps each asked name to an address of its own in 127.128.0.0/9.
type Names struct {
	mu     sync.Mutex
	byName map[string]netip.Addr
	byAddr map[netip.Addr]string
}

// NewNames makes an empty table.
func NewNames() *Names {
	return &Names{byName: map[string]netip.Addr{}, byAddr: map[netip.Addr]string{}}
}

// Address returns the address of a name, which stays the same for ever; false where the name is no host name or the
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

// Name returns the name that an address was given to.
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
