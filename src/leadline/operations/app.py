"""Puts the parts together: from an instance to the one ASGI application that answers HTTP."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.responses import JSONResponse, Response

from leadline.administration.instance import Instance
from leadline.catalog.catalog import Catalog
from leadline.clock import now_microseconds
from leadline.dialects.api import Api, openapi
from leadline.dialects.openai.batches import decode_line
from leadline.images.decode import ImageDecoder
from leadline.images.fetch import ImageFetcher
from leadline.images.hosts import PrivateHosts
from leadline.limits.limiter import Limiter
from leadline.management.api import ManagementApi, is_management
from leadline.operations.late_console import LateConsole
from leadline.operations.metrics import PATH as METRICS
from leadline.operations.metrics import Metrics
from leadline.serving.batch_store import BatchStore
from leadline.serving.batches import Batches
from leadline.serving.deferred import Deferred
from leadline.serving.file_contents import FileContents
from leadline.serving.files import Files
from leadline.serving.pictures import Pictures
from leadline.serving.pipeline import Pipeline
from leadline.serving.replays import Replays
from leadline.serving.running import Running
from leadline.serving.stored import StoredAnswers
from leadline.storage.database import Database

Scope = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a model can answer, and why not yet."""

    catalog: Catalog
    database: Database

    def ready(self) -> JSONResponse:
        """200 once a model can answer, else 503 with each model's reason."""
        models = {
            model.name: {"ready": model.engine.status.ready, "detail": model.engine.status.detail}
            for model in self.catalog.models
        }
        if not self.database.writable:
            return _not_ready("degraded", "the books cannot be written: is the disk full?", models)
        if any(model["ready"] for model in models.values()):
            return JSONResponse({"status": "ready", "models": models})
        detail = "; ".join(f"{name}: {model['detail']}" for name, model in models.items()) or "no model is configured"
        return _not_ready("unavailable", detail, models)


def _not_ready(status: str, detail: str, models: object) -> JSONResponse:
    return JSONResponse({"status": status, "detail": detail, "models": models}, 503, headers={"retry-after": "2"})


def build_pipeline(instance: Instance, catalog: Catalog) -> Pipeline:
    """The money path of an instance. Its `running.watch`, and a `BatchRunner`, must be kept going beside it."""
    stored = StoredAnswers(instance.database, instance.sealer, now_microseconds)
    instance.activity = running = Running(instance.keys, instance.ledger)
    return Pipeline(
        instance.keys,
        instance.organisations,
        catalog,
        Limiter(instance.config.limits.default),
        instance.ledger,
        running,
        Replays(instance.database, instance.sealer, now_microseconds),
        stored,
        Deferred(stored),
        Files(
            instance.database,
            FileContents(instance.data / "files", instance.sealer),
            instance.config.files,
            now_microseconds,
        ),
        batches=Batches(BatchStore(instance.database, instance.sealer, now_microseconds), catalog, decode_line),
        pictures=Pictures(ImageFetcher(PrivateHosts.of(instance.config.images.allow_private_hosts)), ImageDecoder()),
    )


def create_app(instance: Instance, pipeline: Pipeline) -> Callable[..., object]:
    """The ASGI application. API paths go straight to the dialects, those of pages to the console, and those of the
    management API to it, unless that has a port of its own."""
    api = Api(pipeline)
    management = ManagementApi(instance, pipeline) if instance.config.management.port is None else None
    health, metrics = Health(pipeline.catalog, instance.database), _metrics(instance)
    pages: dict[str, Callable[[], Response]] = {
        "/health/live": lambda: JSONResponse({"status": "live"}),
        "/health/ready": health.ready,
        "/openapi.json": lambda: Response(openapi(), media_type="application/json"),
    }
    console = LateConsole(instance, pipeline, api)

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        if scope["type"] != "http" or scope["path"].startswith("/v1/"):
            await api(scope, receive, send)
            return
        if management is not None and is_management(scope["path"]):
            await management(scope, receive, send)
            return
        if metrics is not None and scope["path"] == METRICS:
            await metrics(scope, receive, send)
            return
        page = pages.get(scope["path"])
        answering = page() if page is not None and scope["method"] in ("GET", "HEAD") else console
        await answering(scope, receive, send)

    return app


def _metrics(instance: Instance) -> Metrics | None:
    """None: there are none here, since nobody asked for them or they have a port of their own."""
    wanted = instance.config.metrics
    return Metrics(instance) if wanted.token is not None and wanted.port is None else None
