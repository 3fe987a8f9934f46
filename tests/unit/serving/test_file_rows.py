"""Lists of files: in order, page by page, filtered."""

import pytest

from leadline.errors import InvalidRequest
from leadline.serving.file_rows import FileOrder
from leadline.serving.files import Files
from tests.unit.serving.file_scenes import ALICE, keep


async def names(store: Files, order: FileOrder) -> list[str]:
    return [file.filename for file in (await store.page(ALICE, order)).files]


@pytest.mark.parametrize("sort_by", ["created_at", "filename", "size"])
@pytest.mark.parametrize("ascending", [True, False])
async def test_pages_go_on_where_the_one_before_ended_also_if_its_files_are_gone(
    store: Files, sort_by: str, ascending: bool
) -> None:
    for name, size in (("c", 1), ("a", 2), ("d", 2), ("b", 0)):
        await keep(store, b"x" * size, name)
    order = {"created_at": "cadb", "filename": "abcd", "size": "bcad"}[sort_by]
    order = order if ascending else order[::-1]
    whole = await store.page(ALICE, FileOrder(sort_by=sort_by, ascending=ascending))
    assert (sorted(file.filename for file in whole.files), whole.token) == (list("abcd"), None)
    if sort_by != "size":
        assert [file.filename for file in whole.files] == list(order)
    seen, token = [], None
    for number in range(4):
        page = await store.page(ALICE, FileOrder(1, sort_by, ascending, token=token))
        [file] = page.files
        assert file == whole.files[number]
        seen.append(file.filename)
        await store.delete(ALICE, file.id)
        token = page.token
    assert (sorted(seen), token) == (list("abcd"), None)


async def test_after_and_purpose_choose_from_a_list(store: Files) -> None:
    first, second, third = [await keep(store, name=name) for name in "abc"]
    assert await names(store, FileOrder(after=second.id)) == ["a"]
    assert await names(store, FileOrder(after=first.id, ascending=True)) == ["b", "c"]
    assert await names(store, FileOrder(after=third.id, sort_by="filename")) == ["b", "a"]
    assert await names(store, FileOrder(purpose="test")) == ["c", "b", "a"]
    assert await names(store, FileOrder(purpose="batch")) == []


FILTERS = {
    'name = "a"': "a",
    'file_name != "a"': "bc",
    "size_bytes >= 2 AND size_bytes<3": "b",
    " size_bytes > 0 AND expires_at = null ": "ab",
    "expires_at != null": "c",
    'created_at <= "2027-01-13T13:00:00+01:00"': "abc",
    'created_at > "2027-01-13T12:00:00Z"': "",
    'expires_at > "2027-01-13T12:59:59.5Z"': "c",
    r'name = "\\a" AND size_bytes = 1': "",
}


@pytest.mark.parametrize("asked", FILTERS)
async def test_a_filter_lets_through_what_it_says(store: Files, asked: str) -> None:
    await keep(store, b"x", "a")
    await keep(store, b"xx", "b")
    await keep(store, b"xxx", "c", term=3600)
    assert await names(store, FileOrder(filter=asked, sort_by="filename", ascending=True)) == list(FILTERS[asked])
    page = await store.page(ALICE, FileOrder(1, filter="size_bytes > 1", purpose="test"))
    assert await names(store, FileOrder(1, filter="size_bytes > 1", purpose="test", token=page.token)) == ["b"]


WRONG_ORDERS = {
    "limit": [FileOrder(0), FileOrder(-1), FileOrder(10_001)],
    "filter": [
        FileOrder(filter=asked)
        for asked in (
            *(
                "x",
                "name",
                "name =",
                "name = a",
                "name = 5",
                'size_bytes = "5"',
                "size_bytes < null",
                "size_bytes = 1e3",
            ),
            *("name = null AND", "name = null OR name = null", "(name = null)", "-name = null", "created_at > 5"),
            *('created_at > "today"', 'created_at > "2027-01-13T12:00:00"', "size_bytes = 99999999999999999999"),
            *('purpose = "x"', "name = null; DROP TABLE files", 'name = "a" ' + "AND name = null " * 100),
        )
    ],
    "after": [FileOrder(after="file_0", sort_by="size")],
    "pagination_token": [FileOrder(token=token) for token in ("x", "ø", "k6RzaXplAaE", "gA", "a" * 999, "gqFh")],
}


@pytest.mark.parametrize("param", WRONG_ORDERS)
async def test_a_page_that_cannot_be_found_is_refused_by_name(store: Files, param: str) -> None:
    await keep(store, b"", "a")
    await keep(store, b"", "b")
    token = (await store.page(ALICE, FileOrder(1, "size"))).token
    orders = [*WRONG_ORDERS[param], *([FileOrder(token=token, sort_by="filename")] * (param == "pagination_token"))]
    for order in orders:
        with pytest.raises(InvalidRequest) as refused:
            await store.page(ALICE, order)
        assert refused.value.param == param
