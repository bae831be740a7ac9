"""Starting a tool of the JVM, Go, Rust or Ruby by its dialect's name."""

from contextlib import AbstractContextManager
from pathlib import Path

from testbed.tools.debian import rails
from testbed.tools.driver import Tool
from testbed.tools.maven import jvm
from testbed.tools.programs import program


def start(name: str, project: Path, url: str) -> AbstractContextManager[Tool]:
    """Run a tool in a project directory; the test is skipped if the tool is not available."""
    match name:
        case "flyway" | "liquibase":
            return jvm(name, project, url)
        case "rails":
            return rails(project, url)
        case _:
            return program(name, project, url)
