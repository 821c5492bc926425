module filter-go

go 1.24
