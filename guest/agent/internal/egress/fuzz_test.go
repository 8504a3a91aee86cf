package egress

import (
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

var guestNames = netip.MustParsePrefix("127.0.0.0/8")

// FuzzAnswer: any datagram has either no reply or one that is a DNS message of bounded size, whose only addresses are
// the guest's own.
func FuzzAnswer(f *testing.F) {
	ask := func(name string, kind dnsmessage.Type) []byte {
		message := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
			Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
		}
		packed, err := message.Pack()
		if err != nil {
			f.Fatal(err)
		}
		return packed
	}
	f.Add([]byte{})
	f.Add(ask("a.example.", dnsmessage.TypeA))
	f.Add(ask("localhost.", dnsmessage.TypeA))
	f.Add(ask("a.example.", dnsmessage.TypeAAAA))
	f.Add(append(ask("a.example.", dnsmessage.TypeA)[:12], 0xc0, 0x0c, 0, 1, 0, 1))
	f.Fuzz(func(t *testing.T, question []byte) {
		reply := Answer(question, NewNames())
		if reply == nil {
			return
		}
		if len(reply) > maxQuestion {
			t.Fatalf("a reply of %d bytes", len(reply))
		}
		var message dnsmessage.Message
		if err := message.Unpack(reply); err != nil {
			t.Fatalf("the reply is no DNS message: %v", err)
		}
		for _, answer := range message.Answers {
			a, ok := answer.Body.(*dnsmessage.AResource)
			if !ok || !guestNames.Contains(netip.AddrFrom4(a.A)) {
				t.Fatalf("an answer that leads out: %v", answer)
			}
		}
	})
}
