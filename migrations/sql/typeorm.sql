-- TypeORM: class names, each of which ends with the 13 digits of `timestamp`. A migration that fails leaves no row.

-- name: read
select name
from {table}
