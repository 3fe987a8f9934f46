"""`leadline chat`."""

import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import click

from leadline.cli.conversation import Answer, ChatFailed, Conversation, Server
from leadline.cli.options import common, data_folder, is_set_up, run
from leadline.cli.plain_text import harmless
from leadline.money import show_usd

_INTERRUPTED, _WRONG_USAGE, _NOT_READY = 130, 2, 3


@click.command()
@click.argument("model", required=False)
@click.argument("question", nargs=-1)
@click.option("--system", metavar="TEXT", help="What the model is told before the conversation.")
@click.option(
    "--image",
    "images",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A picture beside the first question. Repeat it for more.",
)
@click.option("--api-key", metavar="KEY", help="[default: LEADLINE_API_KEY, else XAI_API_KEY]")
@click.option("--url", help="Another server than the one that runs on the instance's folder.")
@common
def chat(
    model: str | None,
    question: tuple[str, ...],
    *,
    system: str | None,
    images: tuple[Path, ...],
    api_key: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Talk with a model in the terminal, through the running server and as its key: it costs what it costs.

    Without MODEL: the first one that chats. A QUESTION, or one on standard input, is answered, and that is all. Ctrl C
    ends an answer, at the prompt the conversation; so does Ctrl D. The answer is on standard output, with --json an
    object a line; thoughts and costs are on standard error.

    \b
    Examples:
      leadline chat
      leadline chat grok-beta --image cat.png "What is on this picture?"
      git diff | leadline chat grok-beta --system "Review this change."
    """
    try:
        server = Server(url or _own_server(), api_key or _key())
        said = [{"role": "system", "content": system}] if system else []
        conversation = Conversation(server, model or server.default_model(), list(said))
        if question or not sys.stdin.isatty():
            _once(conversation, " ".join(question) or sys.stdin.read().strip(), images, as_json=as_json)
        else:
            _talk(conversation, images, as_json=as_json)
    except ChatFailed as error:
        _fail(error)


def _own_server() -> str:
    """Where the server of this folder listens."""
    told = run("status", {}) if is_set_up() else {}
    url = told.get("local_url")
    if not url:
        raise ChatFailed(f"No server runs on {data_folder()}. Start one: leadline serve", _NOT_READY)
    return str(url)


def _key() -> str:
    key = os.environ.get("LEADLINE_API_KEY") or os.environ.get("XAI_API_KEY")
    if not key:
        raise ChatFailed(
            "There is no API key. Make one: leadline keys create --name chat\n"
            "Then: export LEADLINE_API_KEY=…   (or --api-key)",
            _WRONG_USAGE,
        )
    return key


def _once(conversation: Conversation, question: str, images: tuple[Path, ...], *, as_json: bool) -> None:
    if not question:
        raise ChatFailed("There is no question: give one as an argument or on standard input.", _WRONG_USAGE)
    if not _answer(conversation, question, images, as_json=as_json):
        sys.exit(_INTERRUPTED)


def _talk(conversation: Conversation, images: tuple[Path, ...], *, as_json: bool) -> None:
    """Until Ctrl C or Ctrl D at the prompt."""
    import readline  # noqa: F401 the prompt can be edited, and earlier ones come back

    click.echo(f"{conversation.model}. Ctrl D ends the conversation.", err=True)
    while True:
        try:
            question = input("> ").strip()
        except EOFError:
            click.echo(err=True)
            return
        if not question:
            continue
        try:
            _answer(conversation, question, images, as_json=as_json)
            images = ()
        except ChatFailed as error:
            # The next question may fare better: the model may be there by then.
            click.echo(harmless(str(error)), err=True)


def _answer(conversation: Conversation, question: str, images: tuple[Path, ...], *, as_json: bool) -> bool:
    """Print an answer while it comes, then its cost. False: Ctrl C ended it, and the server was hung up on."""
    ended = True
    with closing(conversation.ask(question, images)) as pieces:
        try:
            for piece in pieces:
                text = harmless(piece.text) if sys.stdout.isatty() else piece.text
                if piece.kind == "thought":
                    click.secho(harmless(piece.text), dim=True, nl=False, err=True)
                elif not as_json:
                    click.echo(text, nl=False)
        except KeyboardInterrupt:
            ended = False
        finally:
            if conversation.answer.text and not as_json:
                click.echo()
    answer = conversation.answer
    if as_json:
        click.echo(json.dumps(_told(answer), ensure_ascii=False))
    click.echo(_cost(answer) if ended else "Stopped. What came of it is charged: leadline usage log", err=True)
    return ended


def _told(answer: Answer) -> dict[str, object]:
    return {
        "model": answer.model,
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "usage": answer.usage,
        "cost_ticks": answer.cost_ticks,
        "request_id": answer.request_id,
    }


def _cost(answer: Answer) -> str:
    usage = answer.usage or {}
    cost = "unknown cost" if answer.cost_ticks is None else show_usd(answer.cost_ticks)
    tokens = f"{usage.get('prompt_tokens', '?')} tokens in, {usage.get('completion_tokens', '?')} out"
    cut = " (cut at its longest)" if answer.finish_reason == "length" else ""
    return f"{tokens}, {cost}{cut}"


def _fail(error: ChatFailed) -> NoReturn:
    click.echo(harmless(str(error)), err=True)
    sys.exit(error.exit_code)
