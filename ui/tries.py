"""How often a wrong password may be tried: a few times at once, then ever more slowly, for each address and for all."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from dataclasses import dataclass, field

FREE_TRIES = 5
LONGEST_WAIT_SECONDS = 900.0
FORGOTTEN_SECONDS = 3600.0
ALL_TRIES, ALL_SECONDS = 60, 60.0  # so many wrong ones in so long, from all addresses together
_MOST_ADDRESSES = 4096


@dataclass
class Tries:
    """Wrong tries by address. `now` is any clock in seconds that never goes back."""

    _wrong: OrderedDict[str, tuple[int, float]] = field(default_factory=OrderedDict)
    _recent: deque[float] = field(default_factory=deque)

    def wait_seconds(self, address: str, now: float) -> float:
        """How long this address has to wait until its next try is looked at; 0 when it may try now."""
        count, last = self._wrong.get(_group(address), (0, 0.0))
        own = min(2.0 ** max(0, count - FREE_TRIES), LONGEST_WAIT_SECONDS) if count >= FREE_TRIES else 0.0
        while self._recent and self._recent[0] <= now - ALL_SECONDS:
            self._recent.popleft()
        all_wait = self._recent[0] + ALL_SECONDS - now if len(self._recent) >= ALL_TRIES else 0.0
        return max(0.0, last + own - now if own else 0.0, all_wait)

    def wrong(self, address: str, now: float) -> None:
        """Note a wrong try."""
        count, last = self._wrong.pop(_group(address), (0, now))
        self._wrong[_group(address)] = (count + 1 if now - last < FORGOTTEN_SECONDS else 1, now)
        self._recent.append(now)
        while len(self._wrong) > _MOST_ADDRESSES:
            self._wrong.popitem(last=False)

    def right(self, address: str) -> None:
        """Forget the wrong tries of an address that knew the password."""
        self._wrong.pop(_group(address), None)


def _group(address: str) -> str:
    """Whom an address belongs to: one subscriber of IPv6 has 2**64 of them."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address
