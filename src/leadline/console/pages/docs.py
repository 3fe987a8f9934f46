"""The docs, for everybody: filled with this server's own addresses and models. They are made in threads: the first look
at a page may take longer than other people's streams should wait."""

import asyncio

from starlette.responses import RedirectResponse, Response

from leadline.console.docs.contents import SEARCH
from leadline.console.docs.reader import Reader
from leadline.console.docs.search import LONGEST_QUERY
from leadline.console.docs.site import Article, Docs
from leadline.console.page import Page
from leadline.console.visit import Guest
from leadline.errors import NotFound

START = "/docs/quickstart"


def pages(docs: Docs) -> tuple[Page, ...]:
    """The pages below /docs."""

    async def read(guest: Guest) -> Response:
        path = guest.path.rstrip("/")
        if path == "/docs":
            return RedirectResponse(START, 307)
        if (proto := docs.download(path)) is not None:
            return Response(proto.content, media_type="text/plain; charset=utf-8")
        article = await asyncio.to_thread(docs.article, path, _reader(guest))
        if article is None:
            raise NotFound
        return guest.render("docs.html", article=article, groups=docs.groups, query="")

    async def search(guest: Guest) -> Response:
        query = guest.query("q")[:LONGEST_QUERY]
        article = Article(SEARCH, "Search", "", (), "")
        found = await asyncio.to_thread(docs.search, query)
        return guest.render("docs_search.html", article=article, groups=docs.groups, query=query, found=found)

    return (
        Page(SEARCH, "docs", "everybody", get=search),
        Page("/docs", "docs", "everybody", get=read),
        Page("/docs/{path:path}", "docs", "everybody", get=read),
    )


def _reader(guest: Guest) -> Reader:
    instance = guest.instance
    tls = instance.config.grpc.tls_certificate is not None
    return Reader.of(guest.base_url, instance.grpc_address or "", guest.pipeline.catalog.models, grpc_tls=tls)
