-- A row for each applied migration, with the digits in front of its file's name. A migration that fails leaves none.

-- name: read
select version from {table}
