"""What a dialect shows of the key that asks."""

from dataclasses import dataclass

from leadline.accounts.keys import ApiKey


@dataclass(frozen=True, slots=True)
class KeyCard:
    """A key, whatever its state. `user_id` is its organisation's first user; `suspended` is the organisation's state,
    `disabled` and `expired` the key's."""

    key: ApiKey
    user_id: str
    suspended: bool
    disabled: bool
    expired: bool
