"""People of an organisation, for tests of the pages that look after it."""

import re

from leadline.accounts.actor import COMMAND_LINE
from leadline.accounts.audit_log import AuditFilters, AuditRow
from leadline.accounts.mail import Mail
from leadline.accounts.organisations import Member
from leadline.accounts.roles import Role
from leadline.accounts.users import NewUser
from leadline.administration.commands.accounts import open_organisation
from tests.console.visitor import PASSWORD, Visitor
from tests.scripted.server import EMAIL, ScriptedServer

OWNERS_PASSWORD = "correct horse"


class People:
    """Whoever visits the server in a test; all of them leave when it ends."""

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self._visitors: list[Visitor] = []

    def guest(self) -> Visitor:
        """Somebody who is not signed in."""
        visitor = Visitor(self._server)
        self._visitors.append(visitor)
        return visitor

    def owner(self) -> Visitor:
        """Alice, signed in."""
        return self.guest().sign_in(EMAIL, OWNERS_PASSWORD)

    def member(self, role: Role, email: str = "", name: str = "") -> Visitor:
        """A further member of Alice's organisation, signed in."""
        server, email = self._server, email or f"{role}@northwind.example"

        async def join() -> None:
            person = await NewUser.of(server.instance.passwords, email, PASSWORD, name)
            await server.instance.organisations.join(person, server.organisation_id, role, COMMAND_LINE)

        server.run(join())
        return self.guest().sign_in(email)

    def stranger(self, email: str = "carol@harbour.example", org: str = "Harbour") -> Visitor:
        """The owner of another organisation, signed in."""
        server = self._server

        async def found() -> None:
            person = await NewUser.of(server.instance.passwords, email, PASSWORD)
            await open_organisation(server.instance, COMMAND_LINE, person, org)

        server.run(found())
        return self.guest().sign_in(email)

    def leave(self) -> None:
        for visitor in self._visitors:
            visitor.close()


def members(server: ScriptedServer) -> dict[str, Member]:
    """By their e-mails."""
    found = server.run(server.instance.organisations.members(server.organisation_id))
    return {member.user.email: member for member in found}


def user_id(server: ScriptedServer, email: str) -> str:
    user = server.run(server.instance.users.find(email))
    assert user is not None
    return user.id


def mails(server: ScriptedServer, to: str) -> list[Mail]:
    return [mail for mail in server.run(server.instance.outbox.newest()) if mail.to == to]


def audit_rows(server: ScriptedServer, action: str = "") -> list[AuditRow]:
    """Of all organisations and of the instance, the newest first."""
    return server.run(server.instance.audit_log.rows(None, AuditFilters(action=action), limit=200))


def invitation(answer_text: str) -> str:
    """The path of the link on a page."""
    found = re.search(r"/invite\?token=[\w-]+", answer_text)
    assert found is not None
    return found[0]
