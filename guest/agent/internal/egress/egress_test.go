package egress

import (
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func ask(t *testing.T, names *Names, name string, kind dnsmessage.Type) (dnsmessage.RCode, []string) {
	t.Helper()
	message := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	packed, err := message.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var reply dnsmessage.Message
	if err := reply.Unpack(Answer(packed, names)); err != nil || reply.ID != 7 || !reply.Response {
		t.Fatalf("%v %+v", err, reply)
	}
	var found []string
	for _, answer := range reply.Answers {
		found = append(found, answer.Body.GoString())
	}
	return reply.RCode, found
}

func TestEveryNameHasOneAddress(t *testing.T) {
	names := NewNames()
	seen := map[string]bool{}
	for _, name := range []string{"a.example.", "b.example.", "_srv.c.example."} {
		_, first := ask(t, names, name, dnsmessage.TypeA)
		_, second := ask(t, names, name, dnsmessage.TypeA)
		if len(first) != 1 || len(second) != 1 || first[0] != second[0] || seen[first[0]] {
			t.Fatalf("%s: %v then %v", name, first, second)
		}
		seen[first[0]] = true
		if code, six := ask(t, names, name, dnsmessage.TypeAAAA); code != dnsmessage.RCodeSuccess || len(six) != 0 {
			t.Fatalf("%s has IPv6: %v %v", name, code, six)
		}
	}
	addr, _ := names.Address("A.example")
	if name, known := names.Name(addr); !known || name != "a.example" {
		t.Fatalf("%v is %q", addr, name)
	}
}

func TestImpossibleNamesHaveNone(t *testing.T) {
	names := NewNames()
	for _, name := range []string{".", "a b.", "x\".", "foo-.example.com.", "-foo.example.", "foo.-.", "a..b."} {
		if name == "a..b." {
			if _, found := names.Address(name); found {
				t.Errorf("%q has an address", name)
			}
			continue
		}
		if code, found := ask(t, names, name, dnsmessage.TypeA); code != dnsmessage.RCodeNameError || len(found) != 0 {
			t.Errorf("%q: %v %v", name, code, found)
		}
	}
}

func TestTheTableIsBounded(t *testing.T) {
	names := NewNames()
	label := func(i int) string {
		return string([]byte{'a' + byte(i%26), 'a' + byte(i/26%26), 'a' + byte(i/676%26), 'a' + byte(i/17576)})
	}
	given := 0
	for i := range 70_000 {
		if _, ok := names.Address(label(i)); ok {
			given++
		}
	}
	if given != maxNames-1 {
		t.Fatalf("%d names have an address", given)
	}
}
