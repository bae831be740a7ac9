-- Tables that look like a tool's ledger, wherever they are.

-- name: candidates
-- Tables with the columns $1 and at most $2 in all, which our role may read.
select namespace.nspname::text as schema, class.relname::text as name
from pg_catalog.pg_class as class
join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
cross join lateral (
    select array_agg(attribute.attname::text) as names
    from pg_catalog.pg_attribute as attribute
    where attribute.attrelid = class.oid and attribute.attnum > 0 and not attribute.attisdropped
) as columns
where class.relkind in ('r', 'p')
    and namespace.nspname <> 'information_schema'
    and not starts_with(namespace.nspname, 'pg_')
    and class.relname <> 'ledgergate_exec'
    and columns.names @> $1::text[]
    and cardinality(columns.names) <= $2
    and has_schema_privilege(namespace.oid, 'usage')
    and has_table_privilege(class.oid, 'select')
order by 1, 2
limit 20

-- name: fingerprint
-- As `mark` of reading.sql, for at most 10,000 rows; a ledger has fewer.
select count(*) as rows, sum(xmin::text::bigint)::text as sum, max(xmin::text::bigint) as newest
from (select xmin from {table} limit 10000) as counted
