"""`leadline serve`: opens the instance, starts the engines, answers HTTP and commands, and drains at the end."""

import asyncio
import contextlib
import errno
import gc
import ipaddress
import logging
import resource
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import uvicorn

from leadline.accounts.actor import COMMAND_LINE
from leadline.administration.commands.users import make_setup_link
from leadline.administration.instance import Instance, control_socket
from leadline.administration.models import engine_maker
from leadline.administration.served import Served
from leadline.billing.stripe_checkout import StripeCheckout
from leadline.catalog.catalog import Catalog
from leadline.errors import InvalidRequest, LeadlineError, PermissionDenied
from leadline.management.api import ManagementApi
from leadline.operations.app import build_pipeline, create_app
from leadline.operations.control import serve_control
from leadline.operations.grpc import GrpcServer
from leadline.operations.housekeeping import keep_house
from leadline.operations.late_console import prepare_console
from leadline.operations.logs import start_logging
from leadline.operations.metrics import Metrics
from leadline.operations.quickstart import Quickstart
from leadline.operations.traces import tracing
from leadline.serving.batch_runner import BatchRunner
from leadline.serving.pipeline import Pipeline
from leadline.web import access
from leadline.weights.pull import Progress
from leadline.weights.store import Store

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
DEFAULT_GRPC_PORT = 8081
DRAIN_SECONDS = 30
# Objects more than there were, after which the collector looks for those that only hold each other.
_COLLECT_AFTER = 10_000
SETTLE_SECONDS = 5
_BACKLOG = 2048
_READY_EVERY_SECONDS = 0.05
# What `pulling` tells in more detail.
_PULLING = ("downloading", "unpacking", "copying", "checking", "loading")
_log = logging.getLogger("leadline.serve")


class PortInUse(LeadlineError):
    """Another program listens on this port."""


class Terminal(Protocol):
    """What `serve` tells the person who started it."""

    def serving(self, base_url: str, grpc_address: str, data: Path) -> None: ...

    def pulling(self, name: str, progress: Progress) -> None: ...

    def waiting(self, model: str, detail: str) -> None: ...

    def ready(self, model: str, detail: str) -> None: ...

    def quickstart(self, result: Quickstart) -> None: ...

    def setup_link(self, url: str) -> None: ...

    def management(self, base_url: str) -> None: ...

    def metrics(self, base_url: str) -> None: ...

    def warn(self, sentence: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    # None: the default one; a free one where `port` is 0.
    grpc_port: int | None = None
    quickstart: bool = False


class _Server(uvicorn.Server):
    """uvicorn, with signals taken from the start on, and an exit code of 0 once it has drained. `stopped` is set by the
    first one, `hurried` by the second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopped, self.hurried = asyncio.Event(), asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """The first SIGTERM or SIGINT drains, the second one does not wait."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        (self.hurried if self.force_exit else self.stopped).set()


async def serve(data: Path, options: Options, terminal: Terminal) -> None:
    """Run until SIGTERM or SIGINT. Every command beside it goes through its control socket."""
    if options.quickstart and not _is_loopback(options.host):
        raise PermissionDenied(
            "--quickstart shows a key on the terminal, so it serves only this machine. Leave --host out."
        )
    raise_file_limit()
    async with AsyncExitStack() as stack:
        instance = await Instance.open(data)
        stack.push_async_callback(instance.close)
        stack.callback(start_logging(data / "logs").stop)
        stack.callback(access.flush)
        [(created_at,)] = await instance.database.rows("SELECT MIN(applied_at) FROM migrations")
        make = engine_maker(instance.config, Store(data / "models"), terminal.pulling)
        instance.served = served = Served(make, instance.prices, created_at)
        instance.engines, catalog = served.engines, served.catalog
        instance.billing.checkout = StripeCheckout.of(instance.config.stripe)
        await stack.enter_async_context(tracing(instance.config.traces, instance.ledger.totals))
        sockets = _listen(options)
        for listening in sockets:
            stack.callback(listening.close)
        port = sockets[0].getsockname()[1]
        if instance.config.server.public_url is None:
            instance.base_url = f"http://localhost:{port}"
        instance.local_url = _local_url(sockets[0])
        _warn_of_plain_text(instance, options, terminal)
        stack.push_async_callback(served.close)
        await served.follow(instance.config)
        control = await serve_control(instance)
        stack.callback(control_socket(data).unlink, missing_ok=True)
        stack.callback(control.close)
        pipeline = build_pipeline(instance, catalog)
        batches = BatchRunner(pipeline)
        mails = instance.outbox.deliver()
        for duty in (pipeline.running.watch(), keep_house(instance, pipeline), batches.work(), mails):
            stack.push_async_callback(_cancelled, asyncio.create_task(duty))
        server = _http_server(create_app(instance, pipeline), instance.config.server.trusted_proxies)
        stack.enter_context(server.stopped_by_signals())
        rpcs = await GrpcServer.start(pipeline, _hosts(options), _grpc_port(options), instance.config.grpc)
        draining = asyncio.create_task(_drain(rpcs, batches, server))
        stack.push_async_callback(_cancelled, draining)
        instance.grpc_address = _grpc_address(instance, rpcs)
        terminal.serving(instance.base_url, instance.grpc_address, data)
        for part in _parts_apart(instance, pipeline, terminal):
            task, base_url = await _serve_apart(part, options, instance, server)
            stack.push_async_callback(_cancelled, task)
            part.tell(base_url)
        if not options.quickstart and not await instance.users.any():
            terminal.setup_link((await make_setup_link(instance, COMMAND_LINE))["link"])
        greeting = asyncio.create_task(_welcome(instance, catalog, options, terminal, port))
        stack.push_async_callback(_cancelled, greeting)
        stack.push_async_callback(_cancelled, asyncio.create_task(_prepare()))
        await asyncio.gather(server.serve(sockets), draining)
        # What the drain cut short still says so to its client and settles.
        if server.server_state.tasks:
            await asyncio.wait(server.server_state.tasks, timeout=SETTLE_SECONDS)
        await asyncio.gather(
            *(part.close(SETTLE_SECONDS) for part in (pipeline.replays, pipeline.deferred, pipeline.files)),
            pipeline.pictures.close(),
        )


async def _prepare() -> None:
    """Load what is needed sooner or later. What is there by then stays: the collector looks at what comes, and less
    often. Looking at all of it again and again took a tenth of a request's CPU."""
    await prepare_console()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)


@dataclass(frozen=True, slots=True)
class _Apart:
    """What has a port of its own, by a section of the configuration; `tell` hears where it is."""

    section: str
    port: int
    app: Any
    tell: Callable[[str], None]


def _parts_apart(instance: Instance, pipeline: Pipeline, terminal: Terminal) -> Iterator[_Apart]:
    management, metrics = instance.config.management.port, instance.config.metrics.port
    if management is not None:
        yield _Apart("management", management, ManagementApi(instance, pipeline), terminal.management)
    if metrics is not None:
        yield _Apart("metrics", metrics, Metrics(instance), terminal.metrics)


async def _serve_apart(
    part: _Apart, options: Options, instance: Instance, first: _Server
) -> "tuple[asyncio.Task[None], str]":
    """Serve a part until the first server has drained, and tell where it is."""
    try:
        sockets = _listen(replace(options, port=part.port))
    except PortInUse:
        raise PortInUse(
            f"Port {part.port} of [{part.section}] port is in use by another program. Set another one."
        ) from None
    server = _http_server(part.app, instance.config.server.trusted_proxies)

    async def serving() -> None:
        running = asyncio.create_task(server.serve(sockets))
        try:
            await first.stopped.wait()
            server.should_exit = True
            await asyncio.shield(running)
        finally:
            await _cancelled(running)
            for listening in sockets:
                listening.close()

    return asyncio.create_task(serving()), f"http://localhost:{sockets[0].getsockname()[1]}"


def _http_server(app: Any, trusted_proxies: Sequence[str]) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # Where everybody seems to come from the proxy, one who guesses passwords makes everybody wait.
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(trusted_proxies),
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
    )


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _welcome(instance: Instance, catalog: Catalog, options: Options, terminal: Terminal, port: int) -> None:
    """Tell when each model is ready; with --quickstart, make the first key and ask a first question."""
    for model in catalog.models:
        said = ""
        while not model.engine.status.ready:
            if model.engine.name not in instance.engines:
                break  # it was withdrawn meanwhile
            detail = model.engine.status.detail
            if detail != said and not detail.startswith(_PULLING):
                said = detail
                terminal.waiting(model.name, detail)
            await asyncio.sleep(_READY_EVERY_SECONDS)
        else:
            terminal.ready(model.name, model.engine.status.detail)
            if model.prices.is_free:
                terminal.warn(f"{model.name} has no prices: its answers cost nothing.")
    if options.quickstart:
        try:
            result = await Quickstart.run(instance, catalog, port)
        except LeadlineError as error:
            _log.warning("quickstart failed", extra={"why": str(error)})
            terminal.warn(f"The first question could not be asked: {error}")
            return
        if result is not None:
            terminal.quickstart(result)


async def _drain(rpcs: GrpcServer, batches: BatchRunner, server: _Server) -> None:
    """Drain gRPC when HTTP drains. What runs of batches makes way: it goes on at the next start."""
    await server.stopped.wait()
    batches.stop()
    drained, hurried = asyncio.create_task(rpcs.drain(DRAIN_SECONDS)), asyncio.create_task(server.hurried.wait())
    await asyncio.wait([drained, hurried], return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    rpcs.hurry()
    await drained


def _hosts(options: Options) -> tuple[str, ...]:
    """For the default host, both loopback addresses."""
    return (options.host, "::1") if options.host == DEFAULT_HOST else (options.host,)


def _grpc_port(options: Options) -> int:
    if options.grpc_port is not None:
        return options.grpc_port
    return DEFAULT_GRPC_PORT if options.port else 0


def _local_url(listening: socket.socket) -> str:
    """Where this machine reaches the socket, whatever clients elsewhere go through."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 looked for, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _grpc_address(instance: Instance, rpcs: GrpcServer) -> str:
    return f"{urlsplit(instance.base_url).hostname}:{rpcs.port}"


def _warn_of_plain_text(instance: Instance, options: Options, terminal: Terminal) -> None:
    if _is_loopback(options.host):
        return
    if not instance.base_url.startswith("https://"):
        terminal.warn("Keys travel unencrypted over http. Put a proxy with TLS in front and set [server] public_url.")
    if instance.config.grpc.tls_certificate is None:
        terminal.warn("Keys travel unencrypted over gRPC. Set [grpc] tls_certificate and tls_private_key.")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def raise_file_limit() -> None:
    """As many open files as this process may have: a stream takes two, and a shell gives a program often 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # a system may promise more than it gives
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _listen(options: Options) -> list[socket.socket]:
    """The sockets of a host: for the default one, both loopback addresses on one port."""
    first = _socket(options.host, options.port)
    sockets = [first]
    if options.host == DEFAULT_HOST and socket.has_ipv6:
        with contextlib.suppress(OSError, PortInUse):
            sockets.append(_socket("::1", first.getsockname()[1]))
    return sockets


def _socket(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        raise InvalidRequest(f"There is no host {host!r} on this machine.", "host") from None
    listening = socket.socket(family, kind)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted sockets inherit it: no small piece of a stream waits for the acknowledgement of the one before.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"Port {port} is in use by another program. Start on another port: leadline serve --port {port + 1}"
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise PermissionDenied(f"This user may not listen on port {port}. Choose one above 1023.") from None
        raise InvalidRequest(f"{host} is not an address of this machine.", "host") from None
    listening.settimeout(0)
    return listening
