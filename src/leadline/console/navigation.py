"""The places of the console, as the rail lists them."""

from dataclasses import dataclass

from leadline.accounts.roles import Permission


@dataclass(frozen=True, slots=True)
class Place:
    """A page in the rail. `name` is what `Page.name` says of the pages that belong to it."""

    name: str
    label: str
    path: str
    icon: str
    permission: Permission = "see"


@dataclass(frozen=True, slots=True)
class Group:
    """Places under one heading. Those of the server are for its administrators."""

    label: str
    places: tuple[Place, ...]
    admins_only: bool = False


NAVIGATION = (
    Group(
        "Build",
        (
            Place("playground", "Playground", "/playground", "terminal", "use"),
            Place("keys", "API keys", "/keys", "key-round"),
            Place("models", "Models", "/models", "boxes"),
            Place("docs", "Docs", "/docs/quickstart", "book-open"),
        ),
    ),
    Group(
        "Observe",
        (
            Place("usage", "Usage", "/usage", "chart-column"),
            Place("log", "Request log", "/log", "scroll-text"),
            Place("limits", "Rate limits", "/limits", "gauge"),
        ),
    ),
    Group(
        "Organisation",
        (
            Place("billing", "Billing", "/billing", "receipt"),
            Place("members", "Members", "/members", "users"),
            Place("audit", "Audit log", "/audit", "shield-check"),
            Place("settings", "Settings", "/settings", "settings"),
        ),
    ),
    Group(
        "Server",
        (
            Place("admin-engines", "Engines", "/admin/engines", "cpu"),
            Place("admin-users", "Users", "/admin/users", "user"),
            Place("admin-organisations", "Organisations", "/admin/organisations", "building-2"),
            Place("admin-grants", "Grants", "/admin/grants", "coins"),
            Place("admin-prices", "Prices", "/admin/prices", "tag"),
            Place("admin-audit", "Audit", "/admin/audit", "shield"),
            Place("admin-mail", "Mail", "/admin/mail", "mail"),
            Place("admin-system", "System", "/admin/system", "server"),
        ),
        admins_only=True,
    ),
)
