"""`leadline db`."""

import sys
from pathlib import Path
from typing import Any

import click

from leadline.cli.options import common, data_folder, fail, is_set_up, run, show
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
    _refuse_nothing()
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
    from leadline.administration.instance import schema_now

    _refuse_nothing()
    path = data_folder() / "leadline.db"
    try:
        before = schema_now(data_folder())
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


@database.command("move-to-postgres")
@click.argument("url", required=False)
@common
def move_to_postgres(url: str | None, *, as_json: bool) -> None:
    """Move the books of a stopped server to an empty PostgreSQL database.

    Every rule of the books is checked before and after, every row is compared. Then leadline.toml names the database;
    the file leadline.db stays as it was. The address is read from standard input where none is given: it may hold a
    password, and other users of this machine see command lines.

    \b
    Examples:
      leadline db move-to-postgres postgresql://leadline@db.example/leadline
      leadline db move-to-postgres < address.txt
    """
    import asyncio

    from leadline.administration.moving import move_to_postgres as move

    def tell(table: str, rows: int) -> None:
        click.echo(f"  {table}{f': {rows:,} rows' if rows else ''} …", err=True)

    given = url if url is not None else sys.stdin.readline().strip()
    try:
        result = asyncio.run(move(data_folder(), given, tell))
    except LeadlineError as error:
        fail(error)
    text = (
        f"Moved {result['rows']:,} rows: {result['checked']:,} entries checked, every rule holds. leadline.toml names"
        f" the new database. The old one stays as {result['kept']}; remove it once you trust the new one."
    )
    show(result, as_json=as_json, text=lambda: text)


def _refuse_nothing() -> None:
    """Another command would make a database where there is none: a backup of that is worth nothing."""
    if not is_set_up():
        fail(NotFound(f"There is no database in {data_folder()}. Name the instance's folder with --data."))


def _restored(result: dict[str, Any]) -> str:
    lines = [f"Restored the backup of {result['created_at']} to {result['data']}."]
    lines += [f"Kept aside: {path}" for path in result["kept_aside"]]
    if result["configuration_differs"]:
        lines.append(
            "The folder's leadline.toml differs from the backup's and stays. --replace would take the backup's."
        )
    rules = "every rule holds" if result["ok"] else "NOT EVERY RULE HOLDS"
    return "\n".join([*lines, f"{result['checked']} entries checked: {rules}.", *result["broken"]])
