"""The first pages: what a stranger sees at `/`, and where somebody who signed in begins."""

from starlette.responses import Response

from leadline.console.attention import news
from leadline.console.page import Page
from leadline.console.snippets import Ask, snippets
from leadline.console.visit import Guest, Visit
from leadline.ledger.overview import last_day


async def show_start(guest: Guest) -> Response:
    """For whoever knocks: a person, a browser's preview, a probe."""
    return guest.render("start.html", base_url=guest.base_url, grpc_address=guest.instance.grpc_address)


async def show_home(visit: Visit) -> Response:
    instance, organisation_id = visit.instance, visit.organisation_id
    keys = [key for key in instance.keys.of(organisation_id) if key.revoked_at is None]
    used = any(instance.keys.last_used_at(key.id) is not None for key in keys)
    models, day = visit.models, await last_day(instance.database, organisation_id, instance.keys.clock())
    steps = [
        (True, "Account", f"You are signed in as {visit.user.email}.", "/settings"),
        (visit.balance.available_ticks > 0, "Credits", "Requests are paid from them, ahead.", "/billing"),
        (bool(keys), "API key", "Programs show it with each request.", "/keys/new?name=first-key"),
        (used, "First request", "With curl, Python, JavaScript, or an SDK that you use already.", "/docs/quickstart"),
    ]
    return visit.render(
        "home.html",
        steps=steps,
        done=all(done for done, *_ in steps),
        day=day,
        news=news(visit, day),
        models=models,
        programs=[(one.name, one.code) for one in snippets(Ask(visit.model), visit.host)],
    )


PAGES = (
    Page("/", "", "everybody", show_start),
    Page("/home", "home", "member", show_home),
)
