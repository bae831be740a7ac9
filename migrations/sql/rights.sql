-- What a role lacks, for the message about a missing right. The role $1 is the one that ran the statement.

-- name: role
-- The role $1 where there is one of that name, else that of the session.
select coalesce((select rolname::text from pg_catalog.pg_roles where rolname = $1), current_user::text)

-- name: schema
select
    quote_ident(namespace.nspname) as name,
    pg_get_userbyid(namespace.nspowner)::text as owner,
    array(
        select wanted.privilege from unnest(array['usage', 'create']) as wanted (privilege)
        where not has_schema_privilege($1, namespace.oid, wanted.privilege)
    ) as lacking
from pg_catalog.pg_namespace as namespace
where namespace.nspname = $2

-- name: database
select
    quote_ident(database.datname) as name,
    pg_get_userbyid(database.datdba)::text as owner,
    array(
        select wanted.privilege from unnest(array['connect', 'create', 'temporary']) as wanted (privilege)
        where not has_database_privilege($1, database.oid, wanted.privilege)
    ) as lacking
from pg_catalog.pg_database as database
where database.datname = $2

-- name: relation
-- The relations named $2, those of the search path first. A message has no schema.
select
    quote_ident(namespace.nspname) || '.' || quote_ident(class.relname) as name,
    pg_get_userbyid(class.relowner)::text as owner,
    array(
        select wanted.privilege
        from unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger'])
            as wanted (privilege)
        where class.relkind <> 'S' and not has_table_privilege($1, class.oid, wanted.privilege)
        union all
        select wanted.privilege from unnest(array['usage', 'select', 'update']) as wanted (privilege)
        where class.relkind = 'S' and not has_sequence_privilege($1, class.oid, wanted.privilege)
    ) as lacking
from pg_catalog.pg_class as class
join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
where class.relname = $2 and class.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and namespace.nspname !~ '^pg_toast'
order by pg_table_is_visible(class.oid) desc, 1

-- name: routine
-- The functions and procedures named $2, as above.
select
    quote_ident(namespace.nspname) || '.' || quote_ident(routine.proname)
        || '(' || pg_get_function_identity_arguments(routine.oid) || ')' as name,
    pg_get_userbyid(routine.proowner)::text as owner,
    array(select 'execute' where not has_function_privilege($1, routine.oid, 'execute')) as lacking
from pg_catalog.pg_proc as routine
join pg_catalog.pg_namespace as namespace on namespace.oid = routine.pronamespace
where routine.proname = $2
order by pg_function_is_visible(routine.oid) desc, 1

-- name: type
-- The types and domains named $2, as above.
select
    quote_ident(namespace.nspname) || '.' || quote_ident(type.typname) as name,
    pg_get_userbyid(type.typowner)::text as owner,
    array(select 'usage' where not has_type_privilege($1, type.oid, 'usage')) as lacking
from pg_catalog.pg_type as type
join pg_catalog.pg_namespace as namespace on namespace.oid = type.typnamespace
where $2::text in (type.typname::text, format_type(type.oid, null)) -- the second is what the server says
order by pg_type_is_visible(type.oid) desc, 1
