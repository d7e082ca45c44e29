"""Write the next revision: ``python -m balance.storage.migrations "what changes"``."""

from __future__ import annotations

import sys

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from balance.storage.upgrade import alembic_config


def main(message: str) -> None:
    config = alembic_config()
    last = ScriptDirectory.from_config(config).get_current_head()
    with create_engine("sqlite://").connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        command.revision(config, message, autogenerate=True, rev_id=f"{int(last or 0) + 1:04}")


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or sys.exit(__doc__))
