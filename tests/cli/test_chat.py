"""`leadline chat`: a conversation in the terminal, over HTTP as any client has it."""

import asyncio
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadline.chat.request import Image
from leadline.cli import chat as command
from leadline.cli.conversation import Conversation, Server
from tests.cli import process
from tests.cli.in_process import leadline
from tests.cli.process import DEADLINE_SECONDS, NO_MODEL, Done, Serving, environment, init
from tests.pictures import png
from tests.scripted.engine import ScriptedEngine, echo
from tests.scripted.server import ScriptedServer

# Ctrl C goes to whoever a terminal belongs to.
IN_ITS_TERMINAL = """
import fcntl, termios
from leadline.cli.main import main
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
main()
"""


def chat(server: ScriptedServer, *args: str, stdin: str = "", **more: str) -> Done:
    more = {"LEADLINE_API_KEY": server.api_key} | more
    return leadline("chat", "--url", server.base_url, *args, stdin=stdin, **more)


def test_a_question_is_answered_and_its_cost_told_apart(server: ScriptedServer):
    done = chat(server, "echo", "Hello", "there,", "friend")

    assert (done.code, done.out) == (0, "Hello there, friend\n")
    [charge] = server.charges()
    assert done.err == f"3 tokens in, 3 out, $0.{-charge.amount_ticks:010d}".rstrip("0") + "\n"


def test_a_question_may_come_on_standard_input_and_the_first_model_is_taken(server: ScriptedServer):
    done = chat(server, "--json", stdin="one two\n")

    told = json.loads(done.out)
    assert (done.code, told["model"], told["answer"], told["finish_reason"]) == (0, "echo", "one two", "stop")
    [charge] = server.charges()
    assert (told["cost_ticks"], told["request_id"]) == (-charge.amount_ticks, charge.request_id)


def test_what_the_model_is_told_before_comes_first(server: ScriptedServer):
    assert chat(server, "echo", "Hi", "--system", "Be brief.").code == 0

    assert [message.role for message in server.engine.requests[-1].messages] == ["system", "user"]


def test_a_conversation_remembers_what_was_said(server: ScriptedServer):
    conversation = Conversation(Server(server.base_url, server.api_key), "echo")

    assert "".join(piece.text for piece in conversation.ask("one")) == "one"
    assert "".join(piece.text for piece in conversation.ask("two")) == "two"
    assert [message.role for message in server.engine.requests[-1].messages] == ["user", "assistant", "user"]


def test_who_hangs_up_stops_the_engine_and_keeps_what_came(server: ScriptedServer):
    conversation = Conversation(Server(server.base_url, server.api_key), "slow")
    pieces = conversation.ask("count")
    assert next(pieces).text == "one"
    pieces.close()

    server.wait_until(lambda: server.engine.aborted == ["slow"])
    assert [message["role"] for message in conversation.messages] == ["user", "assistant"]


def test_thoughts_are_no_part_of_the_answer(server: ScriptedServer):
    done = chat(server, "weather", "How is it?")

    assert done.out == "Let me look.\n"
    assert "hm, two" in done.err


def test_a_picture_goes_beside_the_question(tmp_path: Path):
    (tmp_path / "cat.png").write_bytes(png("red", 8, 8))
    sees = ScriptedEngine({"sees": echo})
    server = ScriptedServer(tmp_path / "data", engines={"sees": sees})
    try:
        done = chat(server, "sees", "What is it?", "--image", str(tmp_path / "cat.png"))
        missing = chat(server, "sees", "And this?", "--image", str(tmp_path / "none.png"))
    finally:
        server.stop()
    assert done.code == 0, done.err
    assert [type(block) for block in sees.requests[0].messages[0].content][:1] == [Image]
    assert (missing.code, "cannot be read" in missing.err) == (2, True)


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("nothing", "Hi"), 1, "leadline models list"),
        (("busy", "Hi"), 3, "busy"),
        (("broken-after", "Hi"), 1, "The engine broke."),
        (("echo",), 2, "no question"),
        (("echo", "Hi", "--api-key", "ll_wrong"), 4, "leadline keys create"),
        (("echo", "Hi", "--url", "http://127.0.0.1:9"), 3, "does not answer"),
        (("echo", "Hi", "--url", "nonsense"), 2, "no address"),
        (("echo", "Hi", "--url", "http://a:b"), 2, "no address"),
        (("echo", "Hi", "--api-key", "schlüssel"), 2, "API key"),
    ],
)
def test_what_goes_wrong_is_said_with_what_to_do(server: ScriptedServer, args: tuple[str, ...], code: int, told: str):
    done = chat(server, *args)

    assert done.code == code, done.err
    assert told in done.err
    assert "Traceback" not in done.err


def test_without_credits_it_is_said_how_to_grant_some(tmp_path: Path):
    server = ScriptedServer(tmp_path / "data", usd="0")
    try:
        done = chat(server, "echo", "Hi")
    finally:
        server.stop()
    assert (done.code, done.out) == (4, "")
    assert "leadline credits grant" in done.err


def test_without_a_server_or_a_key_it_is_said_what_makes_one(tmp_path: Path):
    nobody = leadline("chat", "echo", "Hi", "--data", str(tmp_path / "none"))
    keyless = leadline("chat", "echo", "Hi", "--url", "http://127.0.0.1:9", LEADLINE_API_KEY="", XAI_API_KEY="")

    assert (nobody.code, "leadline serve" in nobody.err) == (3, True)
    assert (keyless.code, "leadline keys create" in keyless.err) == (2, True)
    assert not (tmp_path / "none").exists()


def test_the_key_is_leadlines_variable_else_that_of_the_seeds(server: ScriptedServer):
    right, wrong = server.api_key, "ll_wrong"

    assert chat(server, "echo", "Hi", LEADLINE_API_KEY="", XAI_API_KEY=right).code == 0
    assert chat(server, "echo", "Hi", LEADLINE_API_KEY=right, XAI_API_KEY=wrong).code == 0
    assert chat(server, "echo", "Hi", LEADLINE_API_KEY=wrong, XAI_API_KEY=right).code == 4


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_ctrl_c_ends_an_answer_and_the_conversation_goes_on(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    questions, real = iter(["count", "again"]), Conversation.ask

    def interrupted(self: Conversation, question: str, images: tuple[Path, ...] = ()) -> Iterator[object]:
        for piece in (pieces := real(self, question, images)):
            yield piece
            if question == "count":
                pieces.close()
                raise KeyboardInterrupt
            return

    def asked(_: str) -> str:
        for question in questions:
            return question
        raise EOFError

    monkeypatch.setattr(Conversation, "ask", interrupted)
    monkeypatch.setattr("builtins.input", asked)
    monkeypatch.setattr(sys, "stdout", Terminal())
    conversation = Conversation(Server(server.base_url, server.api_key), "slow")
    command._talk(conversation, (), as_json=False)

    assert sys.stdout.getvalue() == "one\none\n"  # type: ignore[attr-defined]
    assert "Stopped." in capsys.readouterr().err
    server.wait_until(lambda: server.engine.aborted == ["slow", "slow"])


def test_an_answer_does_not_command_the_terminal(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    conversation = Conversation(Server(server.base_url, server.api_key), "echo")
    assert command._answer(conversation, "\x1b[2J a\x9b b", (), as_json=False)
    assert sys.stdout.getvalue() == "\ufffd[2J a\ufffd b\n"  # type: ignore[attr-defined]


@pytest.mark.slow
def test_ctrl_c_ends_the_program_with_130_and_the_engine_stops(server: ScriptedServer):
    args = [sys.executable, "-m", "leadline", "chat", "slow", "count", "--url", server.base_url]
    with subprocess.Popen(args, stdout=subprocess.PIPE, env=environment(LEADLINE_API_KEY=server.api_key)) as talks:
        assert talks.stdout is not None
        assert talks.stdout.read(3) == b"one"
        os.kill(talks.pid, signal.SIGINT)
        try:
            assert talks.wait(DEADLINE_SECONDS) == 130
        finally:
            talks.kill()
    server.wait_until(lambda: server.engine.aborted == ["slow"])


@pytest.mark.slow
async def test_the_server_of_the_folder_is_found_whatever_its_public_address(tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "leadline.toml").write_text(f'[server]\npublic_url = "https://elsewhere.example"\n{NO_MODEL}')
    key = (await asyncio.to_thread(init, data, "--credit", "1")).json["api_key"]
    serving = await Serving.start(data)
    try:
        await serving.event("serving")
        done = await asyncio.to_thread(
            process.leadline, "chat", "tiny", "Hi", "--data", str(data), LEADLINE_API_KEY=key
        )
    finally:
        assert await serving.stop() == 0
    assert (done.code, "elsewhere" in done.err) == (3, False)
    assert "does not answer" not in done.err


@pytest.mark.slow
def test_in_a_terminal_ctrl_c_ends_the_answer_and_ctrl_d_the_conversation(server: ScriptedServer):
    ours, theirs = pty.openpty()
    args = [sys.executable, "-c", IN_ITS_TERMINAL, "chat", "slow", "--url", server.base_url]
    env, terminal = environment(LEADLINE_API_KEY=server.api_key, TERM="dumb"), (theirs, theirs, theirs)
    with subprocess.Popen(args, 0, None, *terminal, env=env, start_new_session=True) as talks:
        os.close(theirs)
        _wait_for(ours, "> ")
        os.write(ours, b"count\n")
        _wait_for(ours, "three")
        os.write(ours, b"\x03")
        _wait_for(ours, "Stopped.")
        _wait_for(ours, "> ")
        server.wait_until(lambda: server.engine.aborted == ["slow"])
        server.run(_let_go(server.engine))
        os.write(ours, b"again\n")
        _wait_for(ours, "tokens in")
        _wait_for(ours, "> ")
        os.write(ours, b"\x04")
        assert talks.wait(DEADLINE_SECONDS) == 0
    os.close(ours)
    assert [message.role for message in server.engine.requests[-1].messages] == ["user", "assistant", "user"]


def _wait_for(terminal: int, words: str) -> None:
    seen = b""
    while words.encode() not in seen:
        ready, _, _ = select.select([terminal], [], [], DEADLINE_SECONDS)
        assert ready, seen
        seen += os.read(terminal, 1)


async def _let_go(engine: ScriptedEngine) -> None:
    engine.release.set()
