"""What an instance writes when it is closed."""

from pathlib import Path

from leadline.administration.commands.run import run
from leadline.administration.instance import Instance
from leadline.ledger.usage import UsageBook, UsageRecord

ACCOUNT = {"email": "alice@northwind.example", "org": "Northwind", "password": "correct horse"}


async def test_what_waited_for_its_turn_is_written_at_the_end(tmp_path: Path) -> None:
    instance = await Instance.open(tmp_path)
    made = await run(instance, "init", ACCOUNT | {"first": {"credit": "1", "key": None}})
    key = instance.keys.authenticate(made["api_key"])
    refused = UsageRecord(
        *(key.organisation_id, "request-1", 1, 2, key.id, "echo", "/v1/messages", "refused"), error="rate_limited"
    )

    instance.keys.touch(key.id, 1234)
    instance.ledger.note(refused)
    await instance.close()

    again = await Instance.open(tmp_path)
    assert again.keys.last_used_at(key.id) == 1234
    assert await UsageBook(again.database).records(key.organisation_id) == [refused]
    await again.close()
