-- Umzug, which Sequelize uses: a row with the file name of each applied migration, and nothing else.

-- name: read
select name
from {table}
