"""The control socket: commands beside a running server go through it, so that they hold from its next request on.

One JSON object per line each way: `{"command", "arguments"}`, answered by `{"result"}` or
`{"error": {"message", "exit_code"}}`.
The socket is readable by its owner alone, so whoever can connect may do everything that the folder's owner can.
"""

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from leadline.administration.commands.command import Result
from leadline.administration.commands.run import run
from leadline.administration.instance import Instance, control_socket
from leadline.errors import InvalidRequest, LeadlineError, PermissionDenied, Unavailable

_LONGEST_LINE = 16 * 1024 * 1024
_READ_SECONDS = 30
_COMMAND_SECONDS = 300
_log = logging.getLogger("leadline.control")


class CommandFailed(LeadlineError):
    """A command failed in the running server; `exit_code` is what the command line ends with."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def exit_code(error: LeadlineError) -> int:
    """1 failed, 2 wrong usage, 3 not ready, 4 refused."""
    match error:
        case CommandFailed():
            return error.exit_code
        case InvalidRequest():
            return 2
        case Unavailable():
            return 3
        case PermissionDenied():
            return 4
        case _:
            return 1


async def serve_control(instance: Instance) -> asyncio.Server:
    """Listen for commands. The instance's lock is ours, so a socket that is there is a dead one."""
    path = control_socket(instance.data)
    path.unlink(missing_ok=True)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, TimeoutError, ValueError):
            line = await asyncio.wait_for(reader.readline(), _READ_SECONDS)
            writer.write(msgspec.json.encode(await _outcome(instance, line)) + b"\n")
            await asyncio.wait_for(writer.drain(), _READ_SECONDS)
        writer.close()

    before = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(answer, path, limit=_LONGEST_LINE)
    finally:
        os.umask(before)


async def call(data: Path, command: str, arguments: Mapping[str, Any]) -> Result:
    """Run a command: in the server that has the folder open, or on the folder itself where none has."""
    try:
        reader, writer = await asyncio.open_unix_connection(control_socket(data), limit=_LONGEST_LINE)
    except (FileNotFoundError, ConnectionRefusedError):
        return await _call_closed(data, command, arguments)
    try:
        writer.write(msgspec.json.encode({"command": command, "arguments": arguments}) + b"\n")
        reply = await asyncio.wait_for(reader.readline(), _COMMAND_SECONDS)
    except (TimeoutError, ConnectionError) as error:
        raise Unavailable("The running server did not answer. Its log says why.") from error
    finally:
        writer.close()
    if not reply:
        raise Unavailable("The running server stopped before it answered. Try again.")
    answer: dict[str, Any] = msgspec.json.decode(reply)
    if "error" in answer:
        raise CommandFailed(**answer["error"])
    result: Result = answer["result"]
    return result


async def _call_closed(data: Path, command: str, arguments: Mapping[str, Any]) -> Result:
    instance = await Instance.open(data)
    try:
        return await run(instance, command, arguments)
    finally:
        await instance.close()


async def _outcome(instance: Instance, line: bytes) -> Result:
    try:
        message = msgspec.json.decode(line)
        async with asyncio.timeout(_COMMAND_SECONDS):
            return {"result": await run(instance, message["command"], message["arguments"])}
    except LeadlineError as error:
        return {"error": {"message": str(error), "exit_code": exit_code(error)}}
    except Exception:
        _log.exception("a command failed")
        return {"error": {"message": "The command failed in the server; its log says why.", "exit_code": 1}}
