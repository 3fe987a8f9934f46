"""What counts as an e-mail address: one spelling for each mailbox, and no header that says something else."""

from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.accounts.email_addresses import is_email
from leadline.accounts.users import normal_email

SIGNS = "abz019.@,;:<>()[]\\\"=?_-+ \t\n\r\x00%!&'`|~{}é\u0131\u212a\uff41\u00ad\u200b\u200d\u202e\u3002\uff0e\u2028"


@pytest.mark.parametrize(
    "address",
    [
        *(
            "alice@northwind.example",
            "root@localhost",
            "alice+tag@a.example",
            "o'brien@a-b.example",
            "a.b-c_d@x1.example",
        ),
        *(
            "jürgen@müller.example",
            "用户@例子.example",
            "straße@a.example",
            "अजय@डाटा.example",
            "a" * 64 + "@a.example",
        ),
    ],
)
def test_people_have_such_addresses(address: str) -> None:
    assert is_email(address)


@pytest.mark.parametrize(
    "address",
    [
        # Read as several, as a group, as a comment, as a name.
        *("a,alice@northwind.example", "a;alice@northwind.example", "team:alice@northwind.example"),
        *(
            "alice@evil.example,.northwind.example",
            "alice@evil.example;northwind.example",
            "(c)alice@northwind.example",
        ),
        *("x<alice%evil.example@northwind.example", '"alice"@northwind.example', "alice@[127.0.0.1]"),
        # Read as encoded words.
        *("=?utf-8?q?alice?=@northwind.example", "=?utf-8?q?alice=40evil.example=3e?=@northwind.example"),
        # The same mailbox as another spelling.
        *("\uff41lice@northwind.example", "alice@\uff4eorthwind.example", "alice@northwind\u3002example"),
        *(
            "alice@northwind.example.",
            "alice@north\u00adwind.example",
            "alice@north\u200dwind.example",
            "ali\u200bce@a.example",
        ),
        *(
            "e\u0301va@northwind.example",
            "alice\x00@northwind.example",
            "alice @northwind.example",
            "al\u202eice@a.example",
        ),
        # None at all.
        *("", "@", "alice", "alice@", "@a.example", "a@b@c.example", ".a@b.example", "a.@b.example", "a..b@c.example"),
        *("a@-b.example", "a@b-.example", "a@b..example", "a@" + "b" * 64 + ".example", "a" * 65 + "@b.example"),
    ],
)
def test_these_are_none(address: str) -> None:
    assert not is_email(address)


@given(st.text(st.sampled_from(SIGNS), max_size=12), st.text(st.sampled_from(SIGNS), max_size=12))
def test_a_mail_goes_to_the_address_and_to_no_other_one(local: str, domain: str) -> None:
    address = normal_email(f"{local}@{domain}")
    if not is_email(address):
        return
    message = EmailMessage()
    message["To"] = address

    assert [(one.display_name, one.addr_spec) for one in message["To"].addresses] == [("", address)]
    assert normal_email(address) == address
