"""Runs the seeds' blocks as written: only host, key and image differ."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conformance.seeds.blocks import Block
from tests.live import LiveServer

DEADLINE_SECONDS = 600
_IMAGE = re.compile(r"https://science\.nasa\.gov/\S+\.png")
_KEY = re.compile(r"your_api_key|<api key>|YOUR_XAI_API_KEY")


def live_text(block: Block, live: LiveServer, image_url: str | None = None) -> str:
    """The block with this server's address, a real key and an image on this machine."""
    text = block.text.replace("https://api.x.ai", live.base_url)
    return _IMAGE.sub(image_url or f"{live.base_url}/image.png", _KEY.sub(live.api_key, text))


def run_bash(*blocks: Block, live: LiveServer, **environment: str) -> str:
    """Paste them one after another into one shell."""
    script = "\n".join(live_text(block, live) for block in blocks)
    return _output("bash", "-c", script, **environment)


def run_python(block: Block, live: LiveServer) -> str:
    return _output(sys.executable, "-c", live_text(block, live), XAI_API_KEY=live.api_key)


def start_javascript(
    block: Block, live: LiveServer, node: str, folder: Path, image_url: str | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run it as a module in `folder`, where the SDKs resolve."""
    (folder / "node_modules").symlink_to(Path(__file__).parents[1] / "javascript" / "node_modules")
    (folder / "block.mjs").write_text(live_text(block, live, image_url), "utf-8")
    return _start(node, str(folder / "block.mjs"), XAI_API_KEY=live.api_key)


def run_javascript(block: Block, live: LiveServer, node: str, folder: Path, image_url: str | None = None) -> str:
    return _checked(start_javascript(block, live, node, folder, image_url))


def _output(*command: str, **environment: str) -> str:
    return _checked(_start(*command, **environment))


def _checked(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _start(*command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """With nothing of our own environment that an SDK or curl would heed."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, env=kept | environment, check=False
    )
