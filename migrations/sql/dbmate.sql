-- dbmate: the leading digits of the file name of each applied migration. A migration that fails leaves no row.

-- name: read
select version from {table}
