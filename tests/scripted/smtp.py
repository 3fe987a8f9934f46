"""A mail server that keeps what it is given, and refuses as often as it is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class ScriptedSmtp:
    """Speaks as much of RFC 5321 as one mail needs, on a free port."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        self.recipients: list[str] = []
        self.sign_ins: list[str] = []
        self.refusals = 0
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def running(cls) -> "AsyncIterator[ScriptedSmtp]":
        scripted = cls()
        server = await asyncio.start_server(scripted._converse, "127.0.0.1", 0)
        scripted.port = server.sockets[0].getsockname()[1]
        async with server:
            yield scripted

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 scripted\r\n")
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                command = line.decode().strip()
                writer.write(await self._answer(command, reader, writer))
                await writer.drain()
                if command.upper() == "QUIT":
                    break
        writer.close()

    async def _answer(self, command: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        match command.upper().split()[0]:
            case "EHLO":
                return b"250-scripted\r\n250 AUTH PLAIN\r\n"
            case "AUTH":
                self.sign_ins.append(command)
                return b"235 come in\r\n"
            case "MAIL" if self.refusals:
                self.refusals -= 1
                return b"451 not now\r\n"
            case "RCPT":
                self.recipients.append(command.partition("<")[2].partition(">")[0])
            case "DATA":
                writer.write(b"354 go on\r\n")
                self.mails.append((await reader.readuntil(b"\r\n.\r\n")).decode())
            case "QUIT":
                return b"221 bye\r\n"
        return b"250 ok\r\n"
