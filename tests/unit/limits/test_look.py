"""How limits stand, for whoever looks: nothing is counted, and nothing is kept."""

import pytest

from leadline.config import Limit
from leadline.errors import RateLimited
from leadline.limits.limiter import Limiter, LimitNow
from tests.unit.limits.test_limiter import UNLIMITED, Clock

LIMIT = Limit(requests_per_second=0, requests_per_minute=60, tokens_per_minute=1000, concurrent_requests=2)


def limiter_of(default: Limit) -> Limiter:
    return Limiter(default, Clock())


def test_before_the_first_request_all_is_left() -> None:
    limiter = limiter_of(LIMIT)

    assert limiter.look("alice", "mock") == (
        LimitNow("Requests per Minute", 0, 60, 0, of_key=False),
        LimitNow("Tokens per Minute", 0, 1000, 0, of_key=False),
        LimitNow("Concurrent Requests", 0, 2, 0, of_key=False),
    )
    assert not limiter._of_models.known


def test_what_a_request_took_is_what_its_headers_say() -> None:
    limiter = limiter_of(LIMIT)
    admission = limiter.enter("alice", "mock", "key_1", "laptop", None)
    admission.take_tokens(250)

    requests, tokens, at_once = limiter.look("alice", "mock")
    told = admission.limits

    assert told.requests is not None
    assert told.tokens is not None
    assert (requests.used, requests.limit) == (1, told.requests.limit)
    assert requests.limit - requests.used == told.requests.remaining
    assert requests.reset_milliseconds == told.requests.reset_milliseconds
    assert tokens.limit - tokens.used == told.tokens.remaining
    assert (tokens.used, tokens.percent) == (250, 25)
    assert at_once.used == 1
    admission.close(50)
    assert [one.used for one in limiter.look("alice", "mock")] == [1, 50, 0]
    assert [one.used for one in limiter.look("alice", "another")] == [0, 0, 0]
    assert [one.used for one in limiter.look("bob", "mock")] == [0, 0, 0]


def test_a_look_takes_nothing() -> None:
    limiter = limiter_of(Limit(requests_per_second=0, requests_per_minute=1, tokens_per_minute=0))
    for _ in range(10):
        limiter.look("alice", "mock", "key_1", LIMIT)

    limiter.enter("alice", "mock", "key_1", "laptop", None)
    with pytest.raises(RateLimited):
        limiter.enter("alice", "mock", "key_1", "laptop", None)


def test_a_keys_own_limit_stands_behind_the_models() -> None:
    limiter = limiter_of(UNLIMITED)
    limiter.enter("alice", "mock", "key_1", "laptop", LIMIT)

    looked = limiter.look("alice", "mock", "key_1", LIMIT)

    assert [(one.name, one.used, one.of_key) for one in looked] == [
        ("Requests per Minute", 1, True),
        ("Tokens per Minute", 0, True),
        ("Concurrent Requests", 1, True),
    ]
    assert limiter.look("alice", "mock") == ()
