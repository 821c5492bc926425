module portolan.dev/tests/modules/go

go 1.24
