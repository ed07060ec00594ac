"""The fixtures of the search and of the commands, for a study that uses both."""

from tests.nas.commands.conftest import cli, config
from tests.nas.search.conftest import cache, every, space, table_for

__all__ = ["cache", "cli", "config", "every", "space", "table_for"]
