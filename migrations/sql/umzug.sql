-- Umzug, with which Sequelize migrates: file names and nothing else, a row for each that is applied.

-- name: read
select name
from {table}
