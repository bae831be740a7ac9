def __getattr__(name: str) -> dict[str, str]:
    """Return `SESSION_PARAMETERS` by its former name `SETTINGS`, which tests/cases/runner/setting-refused uses."""
    if name == "SETTINGS":
        from migrations.runner.locked_session import SESSION_PARAMETERS  # noqa: PLC0415 - most runs ask for none

        return SESSION_PARAMETERS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
