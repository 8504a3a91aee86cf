module kiln/guest-agent

go 1.26

require golang.org/x/sys v0.47.0

require (
	github.com/PlakarKorp/go-cdc-chunkers v1.1.0
	golang.org/x/net v0.58.0
)

require (
	github.com/klauspost/cpuid/v2 v2.0.12 // indirect
	github.com/zeebo/blake3 v0.2.4 // indirect
)
