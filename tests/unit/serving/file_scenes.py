"""Whose files there are in tests, how many they may be, and what is done with them."""

from leadline.config import FilesSection
from leadline.serving.file_rows import File
from leadline.serving.files import Files

ALICE, CHARLIE = "org_alice", "org_charlie"
MOST = FilesSection(per_organisation=4, megabytes_per_organisation=1)


async def keep(
    store: Files, content: bytes = b"hello", name: str = "a.txt", *, owner: str = ALICE, term: int | None = None
) -> File:
    async with store.upload(owner, name) as upload:
        await upload.write(content)
        return await upload.keep("test", term)


async def held(store: Files, file_id: str, owner: str = ALICE) -> bytes:
    async with store.open(owner, file_id) as content:
        return b"".join([piece async for piece in content.pieces()])
