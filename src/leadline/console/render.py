"""Pages are made here: of the templates beside this module, which are all compiled when it is imported."""

from typing import Any

import jinja2

from leadline.clock import now_microseconds
from leadline.console import formats
from leadline.console.navigation import NAVIGATION
from leadline.console.static import ASSETS, ICONS
from leadline.money import show_usd


def render(template: str, **context: Any) -> str:
    """The page that a template makes of its context. What the context lacks is an error, never an empty place."""
    return _ENVIRONMENT.get_template(template).render(context)


def _icon(name: str) -> str:
    """Where an icon is. KeyError where there is none of this name."""
    if name not in ICONS:
        raise KeyError(f"There is no icon {name!r} in console/icons.")
    return f"{ASSETS.url('icons.svg')}#{name}"


def environment_of(loader: jinja2.BaseLoader) -> jinja2.Environment:
    """An environment as pages need it, in which all templates of the loader are compiled."""
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    environment.filters |= {
        "usd": show_usd,
        "usd2": formats.usd2,
        "usd5": formats.usd5,
        "tokens": formats.tokens,
        "when": formats.when,
        "day": formats.day,
        "second": formats.second,
        "took": formats.took,
        "per_million": formats.per_million,
        "ago": lambda microseconds: formats.ago(microseconds, now_microseconds()),
    }
    environment.globals |= {"static": ASSETS.url, "icon": _icon, "navigation": NAVIGATION}
    for name in environment.list_templates():
        environment.get_template(name)
    return environment


TEMPLATES = jinja2.PackageLoader("leadline.console", "templates")
_ENVIRONMENT = environment_of(TEMPLATES)
