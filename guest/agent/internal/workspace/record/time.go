package record

import (
	"math/big"
	"strconv"
	"strings"
)

const (
	nanosecond = 1_000_000_000
	// maxSeconds bounds a time on the wire, so that it has at most 20 digits: the year 5138.
	maxSeconds   = 99_999_999_999
	maxDigits    = 20
	maxFastInt64 = 9_000_000_000
)

// Time is a moment as file systems keep it: seconds since 1970, which may be negative, and nanoseconds after them.
type Time struct {
	Sec  int64
	Nsec int32
}

// Clamped returns the nearest time that the wire can carry.
func (t Time) Clamped() Time {
	switch {
	case t.Sec > maxSeconds:
		return Time{Sec: maxSeconds, Nsec: nanosecond - 1}
	case t.Sec < -maxSeconds:
		return Time{Sec: -maxSeconds}
	}
	return t
}

// After returns whether t is later than other.
func (t Time) After(other Time) bool {
	return t.Sec > other.Sec || (t.Sec == other.Sec && t.Nsec > other.Nsec)
}

// decimal returns the nanoseconds since 1970. Those of times that file systems can hold do not all fit in 64 bits.
func (t Time) decimal() string {
	if t.Sec < maxFastInt64 && t.Sec > -maxFastInt64 {
		return strconv.FormatInt(t.Sec*nanosecond+int64(t.Nsec), 10)
	}
	ns := new(big.Int).Mul(big.NewInt(t.Sec), big.NewInt(nanosecond))
	return ns.Add(ns, big.NewInt(int64(t.Nsec))).String()
}

// parseTime reads what decimal has written.
func parseTime(text string) (Time, bool) {
	digits := strings.TrimPrefix(text, "-")
	if digits == "" || len(digits) > maxDigits || strings.Trim(digits, "0123456789") != "" {
		return Time{}, false
	}
	ns, isNumber := new(big.Int).SetString(text, 10)
	if !isNumber {
		return Time{}, false
	}
	// The Euclidean division: the rest is never negative.
	sec, rest := new(big.Int).DivMod(ns, big.NewInt(nanosecond), new(big.Int))
	return Time{Sec: sec.Int64(), Nsec: int32(rest.Int64())}, true
}
