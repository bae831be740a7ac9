-- Django: app and name of every migration, in the order in which they ran; the graph that orders them is in the files.
-- A migration that fails leaves no row.

-- name: read
select app, name, {time applied} as applied
from {table}
order by id
