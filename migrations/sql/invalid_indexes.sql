-- INVALID indexes: what an interrupted CREATE INDEX, REINDEX or DROP INDEX CONCURRENTLY leaves behind.
-- PostgreSQL, CREATE INDEX, "Building Indexes Concurrently"; REINDEX, "Rebuilding Indexes Concurrently".

-- name: validity
-- Whether the index with this quoted name is valid; no row when there is none.
select indisvalid as valid from pg_catalog.pg_index where indexrelid = to_regclass($1)

-- name: of_index
-- The INVALID index named $2 in the schema $1 (null: in the search path), unless a session is building it right now.
select named.nspname as schema, index.relname as name
from pg_catalog.pg_index as state
join pg_catalog.pg_class as index on index.oid = state.indexrelid
join pg_catalog.pg_namespace as named on named.oid = index.relnamespace
where not state.indisvalid
    and index.relkind = 'i'
    and index.relname = $2
    and (named.nspname = $1 or ($1 is null and pg_catalog.pg_table_is_visible(index.oid)))
    and not exists (select from pg_catalog.pg_stat_progress_create_index as building where building.index_relid = index.oid)

-- name: of_reindex
-- The INVALID copies that REINDEX CONCURRENTLY made of the index with this quoted name, or of this table's indexes. A
-- copy is named after its index, with the suffix _ccnew or _ccold and, where that name is taken, a number; PostgreSQL
-- cuts the index's name as far as the suffix needs room within 63 bytes, at a whole character of up to 4 bytes.
select named.nspname as schema, index.relname as name
from pg_catalog.pg_index as original
join pg_catalog.pg_class as base on base.oid = original.indexrelid
join pg_catalog.pg_index as state on state.indrelid = original.indrelid
join pg_catalog.pg_class as index on index.oid = state.indexrelid
join pg_catalog.pg_namespace as named on named.oid = index.relnamespace
cross join lateral regexp_replace(index.relname, '_cc(new|old)[0-9]*$', '') as stem
where (original.indexrelid = to_regclass($1) or original.indrelid = to_regclass($1))
    and not state.indisvalid
    and index.relname ~ '_cc(new|old)[0-9]*$'
    and (stem = base.relname or (octet_length(index.relname) >= 60 and starts_with(base.relname, stem)))
    and not exists (select from pg_catalog.pg_stat_progress_create_index as building where building.index_relid = index.oid)

-- name: drop
drop index concurrently if exists {index}
