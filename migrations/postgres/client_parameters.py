"""Parameters of connection URLs that clients other than libpq read.

A parameter is applied where it concerns the connection, and ignored where it only configures the client itself.
Sources: https://www.prisma.io/docs/orm/overview/databases/postgresql#connection-details,
https://jdbc.postgresql.org/documentation/use/, https://node-postgres.com/features/ssl
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from migrations.postgres.parameters import KEYWORDS, LEFT_OUT, NO_VERIFY, REFUSED, SSL_MODES, words

if TYPE_CHECKING:
    from migrations.postgres.parameters import AddressParameters

_ALIASES = {
    "channelbinding": "channel_binding",
    "connecttimeout": "connect_timeout",
    "database": "dbname",
    "applicationname": "application_name",
    "currentschema": "search_path",
    "requireauth": "require_auth",
    "schema_search_path": "search_path",
    "ssl-ca": "sslrootcert",
    "ssl-cert": "sslcert",
    "ssl-key": "sslkey",
    "ssl-mode": "sslmode",
    "ssl-root-cert": "sslrootcert",
    "username": "user",
}
_SETTINGS = words(
    "bytea_output client_min_messages datestyle default_tablespace default_transaction_isolation "
    "default_transaction_read_only extra_float_digits geqo idle_in_transaction_session_timeout idle_session_timeout "
    "default_toast_compression default_transaction_deferrable default_text_search_config effective_cache_size "
    "enable_seqscan escape_string_warning gin_fuzzy_search_limit lc_messages lc_monetary lc_numeric lc_time "
    "log_min_duration_statement log_statement plan_cache_mode random_page_cost xmlbinary xmloption "
    "intervalstyle jit lock_timeout maintenance_work_mem max_parallel_maintenance_workers role row_security "
    "search_path session_replication_role standard_conforming_strings statement_timeout synchronous_commit "
    "temp_tablespaces timezone transaction_timeout work_mem"
)
"""Run-time parameters that pgx, lib/pq, asyncpg and node-postgres take from a URL; so is every name with a dot."""
_OF_OTHER_CLIENTS = words(
    # Prisma; Supabase
    "connection_limit pool_timeout socket_timeout pgbouncer statement_cache_size max_idle_connection_lifetime "
    "max_connection_lifetime single_use_connections supa workaround "
    # SQLAlchemy and asyncpg
    "prepared_statement_cache_size prepared_statement_name_func async_fallback command_timeout "
    "max_cached_statement_lifetime max_cacheable_statement_size pool_size max_overflow pool_recycle pool_pre_ping "
    # Django and Rails
    "conn_max_age conn_health_checks disable_server_side_cursors pool reconnect checkout_timeout prepared_statements "
    "statement_limit encoding min_messages advisory_locks timeout idle_timeout adapter variables insert_returning "
    "reaping_frequency "
    # node-postgres, Knex, postgres.js
    "uselibpqcompat query_timeout connectiontimeoutmillis idletimeoutmillis keepalive keepaliveinitialdelaymillis max "
    "min max_lifetime max_pipeline prepare fetch_types binary connection_timeout "
    # JDBC
    "sockettimeout logintimeout canceltimeout cancelsignaltimeout tcpkeepalive tcpnodelay preparethreshold "
    "preparedstatementcachequeries preparedstatementcachesizemib databasemetadatacachefields "
    "databasemetadatacachefieldsmib defaultrowfetchsize rewritebatchedinserts stringtype binarytransfer "
    "binarytransferenable binarytransferdisable assumeminserverversion hostrecheckseconds autosave "
    "cleanupsavepoints preferquerymode allowencodingchanges logunclosedconnections loggerlevel loggerfile "
    "disablecolumnsanitiser escapesyntaxcallmode maxresultbuffer adaptivefetch groupstartupparameters readonlymode "
    "sslresponsetimeout sendbuffersize receivebuffersize quotereturningidentifiers hideunprivilegedobjects "
    # Doctrine
    "charset driver serverversion persistent "
    # pgx and lib/pq; sqlx; Ecto
    "pool_max_conns pool_min_conns pool_max_conn_lifetime pool_max_conn_lifetime_jitter pool_max_conn_idle_time "
    "pool_health_check_period default_query_exec_mode statement_cache_capacity description_cache_capacity "
    "statement-cache-capacity binary_parameters disable_prepared_binary_result queue_target "
    "queue_interval"
)
_UNUSABLE = {
    "sslidentity": "a PKCS #12 file, which ledgergate cannot read: let `openssl pkcs12` make sslcert and sslkey of it",
    "sslinline": "certificates in the URL, which ledgergate cannot use: name files by sslrootcert, sslcert and sslkey",
    "rejectunauthorized": "which belongs to an object of node-postgres, not to a URL: write sslmode=no-verify",
    "socketfactory": "a class of Java, which ledgergate cannot run: name the host by which the database is reached",
}
"""Parameters of other clients that decide how a connection is made, and that ledgergate cannot honour."""
_JDBC_TARGETS = {
    "any": "any",
    "primary": "primary",
    "master": "primary",
    "secondary": "standby",
    "slave": "standby",
    "prefersecondary": "prefer-standby",
    "preferslave": "prefer-standby",
}
_TRUE, _FALSE = ("true", "1", "on", "yes"), ("false", "0", "off", "no")


def apply_parameters(url: AddressParameters) -> str | None:
    """Apply the parameters that libpq does not have, and return the schema that they make the default.

    Args:
        url: Receives keywords, settings and problems.
    """
    schema = None
    accept = None
    for key, value in url.foreign:
        keyword = _ALIASES.get(key.lower(), key.lower())
        if keyword in {"ssl", "requiressl"}:
            _take_ssl(url, value)
        elif keyword == "sslaccept":
            accept = value
        elif keyword == "schema":
            schema = value or None
            if value:
                url.settings["search_path"] = '"{}"'.format(value.replace('"', '""'))
        elif key.lower() == "currentschema":
            schema = value.partition(",")[0].strip().strip('"') or None
            url.settings["search_path"] = value
        elif keyword in KEYWORDS or keyword in REFUSED:
            url.keywords[keyword] = value
        elif not _take_jdbc(url, keyword, value):
            _take_other(url, keyword, key, value)
    _apply_prisma_tls(url, accept)
    return schema


def _take_jdbc(url: AddressParameters, keyword: str, value: str) -> bool:
    """Apply a parameter of JDBC that libpq has under another name; return False for any other."""
    if keyword == "targetservertype":
        _take_choice(url, "target_session_attrs", "targetServerType", value, _JDBC_TARGETS)
    elif keyword == "loadbalancehosts":
        choices = {"true": "random", "false": "disable"}
        _take_choice(url, "load_balance_hosts", "loadBalanceHosts", value, choices)
    elif keyword == "sslfactory" and value.rpartition(".")[2] == "NonValidatingFactory":
        url.keywords["sslmode"] = NO_VERIFY
    else:
        return False
    return True


def _take_other(url: AddressParameters, keyword: str, key: str, value: str) -> None:
    if keyword in _SETTINGS or "." in keyword or keyword.startswith("options["):
        url.settings[keyword.removeprefix("options[").rstrip("]")] = value
    elif keyword in _UNUSABLE:
        url.problems.append(f"{url.name} has {key}, {_UNUSABLE[keyword]}")
    elif keyword not in LEFT_OUT | _OF_OTHER_CLIENTS and not keyword.startswith("x-"):
        url.problems.append(
            f"{url.name} has the parameter {_shown(key)}, which is none of libpq's and is not known of another "
            "client: correct or remove it"
        )


def _take_ssl(url: AddressParameters, value: str) -> None:
    """Apply libpq's `ssl=true`, its old `requiressl=1`, and the values that node-postgres and asyncpg take.

    `sslmode` takes precedence, so that no order of parameters weakens it.
    """
    text = value.lower()
    modes = dict.fromkeys(_TRUE, "verify-full" if url.jdbc else "require") | dict.fromkeys(_FALSE, "disable")
    mode = modes.get(text) or (text if text in {*SSL_MODES, NO_VERIFY} else None)
    if mode is None:
        url.problems.append(f"{url.name}: ssl must be true, false or one of {', '.join(SSL_MODES)}, got {value!r}")
    else:
        url.keywords.setdefault("sslmode", mode)


def _take_choice(url: AddressParameters, keyword: str, key: str, value: str, values: dict[str, str]) -> None:
    if value.lower() in values:
        url.keywords[keyword] = values[value.lower()]
    else:
        url.problems.append(f"{url.name}: {key} must be one of {', '.join(values)}, got {value!r}")


def _apply_prisma_tls(url: AddressParameters, accept: str | None) -> None:
    """Apply Prisma's `sslaccept`. With it, `sslcert` without `sslkey` is the certificate of the authority.

    Source: https://www.prisma.io/docs/orm/overview/databases/postgresql#configuring-an-ssl-connection
    """
    if not accept:
        return
    if accept not in {"strict", "accept_invalid_certs"}:
        url.problems.append(f"sslaccept must be strict or accept_invalid_certs, got {accept!r}")
    if "sslcert" in url.keywords and "sslkey" not in url.keywords:
        url.keywords["sslrootcert"] = url.keywords.pop("sslcert")
    mode = url.keywords.get("sslmode") or "prefer"
    if accept == "strict" and mode != "disable":
        url.keywords["sslmode"] = "verify-full"
        url.keywords.setdefault("sslrootcert", "system")
    elif accept == "accept_invalid_certs" and mode in {"require", NO_VERIFY}:
        url.keywords["sslmode"] = NO_VERIFY


def _shown(key: str) -> str:
    """Return a parameter's name for a message, if it looks like one: a malformed URL may have a password there."""
    return key if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.\[\]-]{0,40}", key) else "(with a name that is no word)"
