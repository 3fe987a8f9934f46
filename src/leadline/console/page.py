"""What a page is: a path, who may open it, and what answers there."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from starlette.responses import Response

# Permissions of roles, or: everybody, signed in or not; whoever is signed in, even if he belongs to no organisation;
# whoever belongs to one; administrators of this server.
Whom = Literal["everybody", "person", "member", "see", "use", "keys", "billing", "members", "settings", "admin"]
Answer = Callable[[Any], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Page:
    """`name` is the page's place in the navigation. Pages for everybody are given a Guest, those for persons a
    SignedIn, all others a Visit. `post` answers a form and needs `posts`, where it is another permission than that of
    `get`; it is given the form, unless it `reads_body` by itself. Forms come from our own pages, unless what is sent is
    `signed`, which the page has to check."""

    path: str
    name: str
    whom: Whom = "see"
    get: Answer | None = None
    post: Answer | None = None
    posts: Whom | None = None
    reads_body: bool = False
    signed: bool = False

    @property
    def who_posts(self) -> Whom:
        return self.posts or self.whom
