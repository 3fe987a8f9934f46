"""`python -m tests.listening serve ...`: `leadline serve`, whose answers are held against their grammar at its end.
What is wrong with them is told on standard error, and the exit code is 1."""

from collections.abc import Callable
from typing import Any

from leadline.cli.main import main
from leadline.operations import serve
from tests.conformance.grammar.listener import Listener

if __name__ == "__main__":
    listener = Listener()
    create_app: Callable[..., Any] = serve.create_app
    serve.create_app = lambda *parts: listener.wrap(create_app(*parts))
    try:
        main()
    finally:
        listener.check()
