"""What a dialect shows of the key that asks."""

from dataclasses import dataclass

from leadline.accounts.api_key import ApiKey, acls_of


@dataclass(frozen=True, slots=True)
class KeyCard:
    """A key, whatever its state. `user_id` is who made it, else its organisation's first member; `suspended` is the
    organisation's state, `disabled` and `expired` the key's."""

    key: ApiKey
    user_id: str
    suspended: bool
    disabled: bool
    expired: bool

    @property
    def acls(self) -> list[str]:
        """What it may use, in xAI's words."""
        return acls_of(self.key)
