"""Makes a revision from the difference between the declared tables and the revisions there are.

    python -m orders_core.store.migrations.make "Carts keep a note"     # adds the next revision
    python -m orders_core.store.migrations.make --initial               # before the first release: rewrites v0001

Read what it wrote: Alembic sees tables, columns, types, indexes, uniques and foreign keys, but not a changed CHECK,
default or partial index. `tests/store/test_schema.py` compares the upgraded schema with the declared one on both
databases and names what is missing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic import command
from alembic.script import ScriptDirectory

from orders_core.store import schema
from orders_core.store.uow import make_engine

VERSIONS = Path(__file__).parent / "versions"


def make(message: str, *, initial: bool = False) -> Path:
    """Write the next revision (or the first one again) and give its path."""
    if initial:
        later = sorted(VERSIONS.glob("v[0-9]*.py"))[1:]
        if later:
            raise SystemExit(f"{later[0].name} builds on v0001: add a revision instead")
        for old in VERSIONS.glob("v0001_*.py"):
            old.unlink()
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/revision.db"
        if not initial:
            schema.upgrade(url)
        config = schema.alembic_config()
        heads = ScriptDirectory.from_config(config).get_heads()
        number = f"{int(heads[0]) + 1:04d}" if heads else "0001"
        engine = make_engine(url)
        with engine.connect() as conn:
            config.attributes["connection"] = conn
            config.attributes["render_as_batch"] = not initial
            command.revision(config, message, rev_id=number, autogenerate=True)
        engine.dispose()
    path = next(VERSIONS.glob(f"v{number}_*.py"))
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "# ### " not in line), encoding="utf-8")
    for tidy in (["format"], ["check", "--fix"]):
        subprocess.run([sys.executable, "-m", "ruff", *tidy, "--quiet", str(path)], check=True)
    return path


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m orders_core.store.migrations.make")
    parser.add_argument("message", nargs="?", help="what changed, in a few words")
    parser.add_argument("--initial", action="store_true", help="rewrite the first revision; only before a release")
    arguments = parser.parse_args()
    if bool(arguments.message) == arguments.initial:
        parser.error("either a message or --initial")
    path = make(arguments.message or "Initial", initial=arguments.initial)
    sys.stdout.write(f"wrote {path}\n")


if __name__ == "__main__":
    main()
