"""A server as whoever watches over it sees it from outside: `leadline status`, and metrics on a port of their own."""

import asyncio
import json
from pathlib import Path

import httpx2
import pytest

from tests.cli.process import NO_MODEL, Serving, leadline

pytestmark = pytest.mark.slow
TOKEN = "a-token-for-prometheus"


async def test_a_server_tells_how_it_is_and_serves_metrics_on_a_port_of_their_own(tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "leadline.toml").write_text(f'[metrics]\nport = 0\ntoken = "{TOKEN}"\n{NO_MODEL}')
    server = await Serving.start(data)
    first = (await server.event("serving"))["base_url"]
    own = (await server.event("metrics"))["base_url"]
    told, doctor = await asyncio.gather(
        *(asyncio.to_thread(leadline, name, "--json", "--data", str(data)) for name in ("status", "doctor"))
    )
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}) as client:
        text = (await client.get(f"{own}/metrics")).text
        elsewhere = [(await client.get(url)).status_code for url in (f"{first}/metrics", f"{own}/", f"{own}/v1/models")]
        stranger = await client.get(f"{own}/metrics", headers={"authorization": "Bearer something-else-here"})
    code = await server.stop()

    assert (told.code, told.json["running"], told.json["ready"]) == (3, True, False)
    assert [one["models"] for one in told.json["engines"]] == [["tiny"]]
    assert (doctor.code, json.loads(doctor.out)["problems"]) == (1, 1)
    assert 'leadline_engine_ready{engine="remote"} 0' in text.splitlines()
    assert (elsewhere, stranger.status_code, code) == ([404, 404, 404], 401, 0)
