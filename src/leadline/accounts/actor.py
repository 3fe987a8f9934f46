"""Who changes something: a user in the console, or whoever may use the data folder."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """A user's id and e-mail, and the address from which he came."""

    id: str
    name: str
    address: str = ""

    @property
    def user_id(self) -> str:
        """Nothing where it is no user."""
        return self.id if self.id.startswith("usr_") else ""


COMMAND_LINE = Actor("command line", "command line")
