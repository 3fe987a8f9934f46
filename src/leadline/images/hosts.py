"""The hosts that images may come from although they are not public: `[images] allow_private_hosts`."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from leadline.config import ConfigurationError
from leadline.errors import InvalidRequest
from leadline.images.networks import Address, is_public
from leadline.images.url import Url, host_of

_PUBLIC_PORTS = (80, 443)


@dataclass(frozen=True, slots=True)
class PrivateHosts:
    """Names and networks that are allowed, on any port."""

    names: frozenset[str] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def of(cls, entries: tuple[str, ...]) -> "PrivateHosts":
        """From names (`images.internal`), addresses and networks. ConfigurationError names a wrong one."""
        names, networks = [], []
        for entry in entries:
            try:
                networks.append(ip_network(entry))
                continue
            except ValueError:
                pass
            try:
                names.append(str(host_of(entry)))
            except InvalidRequest:
                raise ConfigurationError(
                    f"images.allow_private_hosts: {entry!r} is no host name, address or network."
                ) from None
        return cls(frozenset(names), tuple(networks))

    def check(self, url: Url, addresses: list[Address]) -> None:
        """InvalidRequest unless every address of the URL's host may be asked at the URL's port."""
        if url.host in self.names:
            return
        private = [address for address in addresses if self._holds(address)]
        if not all(is_public(address) for address in addresses if address not in private):
            raise InvalidRequest("The image URL leads to a private or reserved address, which is not allowed here.")
        if url.port not in _PUBLIC_PORTS and len(private) < len(addresses):
            raise InvalidRequest("The image URL has another port than 80 or 443, which is not allowed for this host.")

    def _holds(self, address: Address) -> bool:
        return any(address in network for network in self.networks)
