"""`leadline db`."""

import sys
from pathlib import Path
from typing import Any

import click

from leadline.cli.options import common, data_folder, fail, run, show
from leadline.cli.spinner import spinner
from leadline.errors import LeadlineError, NotFound


@click.group("db")
def database() -> None:
    """The database: backups, and bringing one back."""


@database.command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--with-secret", is_flag=True, help="Put the secret in too: whoever has the file can then use it all.")
@common
def backup(file: Path, *, with_secret: bool, as_json: bool) -> None:
    """Write database and configuration to a new file, beside a running server or not.

    \b
    Examples:
      leadline db backup /var/backups/leadline-monday.tar
      leadline db backup everything.tar.gz --with-secret
    """
    _database()
    with spinner("writing the backup"):
        # The server's working folder may be another one than ours.
        whole_path = str(file.parent.resolve() / file.name)
        result = run("db backup", {"file": whole_path, "with_secret": with_secret})
    members = ", ".join(f"{name} ({size_bytes / 1e6:.1f} MB)" for name, size_bytes in result["members"].items())
    show(result, as_json=as_json, text=lambda: f"Wrote {result['file']}: {members}.")
    if not with_secret and not as_json:
        click.echo("The secret is not in it. Keep a copy of it elsewhere: no API key works without it.", err=True)


@database.command("restore")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--replace", is_flag=True, help="Keep the database that is there aside.")
@common
def restore(file: Path, *, replace: bool, as_json: bool) -> None:
    """Bring a backup back, to a folder that no server has open.

    \b
    Examples:
      leadline db restore leadline-monday.tar --data ./practice
      leadline db restore leadline-monday.tar --replace
    """
    import asyncio

    from leadline.administration.restore import restore as bring_back

    try:
        with spinner("restoring"):
            result = asyncio.run(bring_back(data_folder(), file, replace=replace))
    except LeadlineError as error:
        fail(error)
    show(result, as_json=as_json, text=lambda: _restored(result))
    if not result["ok"]:
        click.echo(f"THE BOOKS ARE BROKEN: {result['broken'][0]}.", err=True)
        click.echo("Do not serve with them. Restore another backup.", err=True)
        sys.exit(1)


@database.command("upgrade")
@common
def upgrade(*, as_json: bool) -> None:
    """Bring the database to this Leadline's schema. A copy of the old one stays beside it.

    `leadline serve` does the same by itself.

    \b
    Examples:
      leadline db upgrade
      leadline db upgrade --json
    """
    from leadline.storage.closed import schema_of

    path = _database()
    try:
        before = schema_of(path)
    except LeadlineError as error:
        fail(error)
    with spinner("upgrading the database"):
        after = run("db upgrade", {})["schema"]
    copies = sorted(path.parent.glob(f"{path.name}.before-upgrade-{before}*"), key=lambda copy: copy.stat().st_mtime)
    copy = str(copies[-1]) if copies and before != after else None
    text = f"The database has schema {after}, the newest."
    if copy is not None:
        text = f"Upgraded the database from schema {before} to {after}. The old one is kept as {copy}."
    show({"from": before, "to": after, "copy": copy}, as_json=as_json, text=lambda: text)


def _database() -> Path:
    """The folder's database. Another command would make one where there is none: a backup of that is worth nothing."""
    path = data_folder() / "leadline.db"
    if not path.exists():
        fail(NotFound(f"There is no database in {path.parent}. Name the instance's folder with --data."))
    return path


def _restored(result: dict[str, Any]) -> str:
    lines = [f"Restored the backup of {result['created_at']} to {result['data']}."]
    lines += [f"Kept aside: {path}" for path in result["kept_aside"]]
    if result["configuration_differs"]:
        lines.append(
            "The folder's leadline.toml differs from the backup's and stays. --replace would take the backup's."
        )
    rules = "every rule holds" if result["ok"] else "NOT EVERY RULE HOLDS"
    return "\n".join([*lines, f"{result['checked']} entries checked: {rules}.", *result["broken"]])
