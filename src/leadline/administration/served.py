"""What a running server serves: its engines and the catalog of their models, which come and go while it runs."""

from dataclasses import dataclass, field

from leadline.administration.models import Make, members_of, sections, share_cores
from leadline.catalog.catalog import Catalog, build_catalog
from leadline.catalog.price_book import PriceBook
from leadline.config import Config
from leadline.engines.engine import Engine, Loadable
from leadline.engines.pool.engine import PoolEngine


@dataclass(slots=True)
class Served:
    """`engines` are those that run, by name. `created_at` is when the instance was made, in seconds."""

    make: Make
    book: PriceBook
    created_at: int
    engines: dict[str, Engine] = field(default_factory=dict)
    catalog: Catalog = field(default_factory=lambda: Catalog(()))

    async def follow(self, config: Config) -> None:
        """Run the engines that `config` names, and offer its models from the next request on. An engine that runs
        already stays as it is; only its workers come and go. Unavailable, and nothing changes, while a request needs
        an engine that would go."""
        engine_sections, model_sections = sections(config)
        # First, so that no request of a new model is free.
        await self.book.follow(model_sections)
        wanted = {section.name for section in engine_sections}
        new = [self.make(one, engine_sections) for one in engine_sections if one.name not in self.engines]
        going = [engine for name, engine in self.engines.items() if name not in wanted]
        for engine in going:
            if isinstance(engine, Loadable):
                engine.unload()
        # No await until the catalog is replaced: a request sees all of it or nothing.
        self.engines.update({engine.name: engine for engine in new})
        for engine in going:
            del self.engines[engine.name]
        self.catalog.replace(build_catalog(model_sections, self.engines, self.created_at, self.book).models)
        share_cores(self.engines.values(), engine_sections)
        for engine in new:
            await engine.start()
        for section in engine_sections:
            pool = self.engines[section.name]
            if isinstance(pool, PoolEngine) and (members := members_of(section)) != pool.members:
                await pool.follow(members)
        for engine in going:
            await engine.close()

    async def close(self) -> None:
        """Stop the engines."""
        for engine in list(self.engines.values()):
            await engine.close()
