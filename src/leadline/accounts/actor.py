"""Who changes something: a user in the console, a management key, or whoever may use the data folder."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """A user's id and e-mail, and the address from which he came; or those of what acts in the name of a user."""

    id: str
    name: str
    address: str = ""
    in_the_name_of: str = ""

    @property
    def user_id(self) -> str:
        """Nothing where there is no user behind it."""
        return self.id if self.id.startswith("usr_") else self.in_the_name_of


COMMAND_LINE = Actor("command line", "command line")
