module kiln/tsc-probe

go 1.24
