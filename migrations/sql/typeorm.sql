-- TypeORM: names of classes, each of which ends in the 13 digits of `timestamp`. What fails leaves no row.

-- name: read
select name
from {table}
