"""The database as a whole. What works only on a closed folder is no command: the command line calls it directly."""

from pathlib import Path

from leadline.administration.backup import write_backup
from leadline.administration.commands.command import Command, Result
from leadline.administration.instance import Instance, read_secret
from leadline.storage.schema import newest_schema


async def backup_database(instance: Instance, file: str, *, with_secret: bool) -> Result:
    """`file` is an absolute path: the caller's working folder may be another one."""
    archive = Path(file)
    assert archive.is_absolute()
    manifest = await write_backup(instance, read_secret(instance.data), archive, with_secret=with_secret)
    return {
        "file": file,
        "created_at": manifest.created_at,
        "schema": manifest.schema,
        "members": {name: member.size_bytes for name, member in manifest.members.items()},
    }


async def upgrade_database(instance: Instance) -> Result:
    """Opening the instance upgraded it."""
    return {"schema": newest_schema()}


# Neither changes what anybody has.
CHANGES: dict[str, Command] = {}
READS: dict[str, Command] = {
    "db backup": backup_database,
    "db upgrade": upgrade_database,
}
