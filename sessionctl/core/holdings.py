"""How much of replies this process holds in memory for those who wait for whole ones.

An agent is tenant code, and may reply with as much as ``chat.maxReplyBytes`` of characters that take six bytes each in
JSON: a few calls that wait must not end the process, and one tenant's must not take what there is from others.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_OF_ONE: Final = 2 << 20
MOST_OF_A_TENANT: Final = 16 << 20
MOST_IN_ALL: Final = 64 << 20


class Holdings:
    """What is held; all sizes are bytes."""

    def __init__(
        self, of_one: int = MOST_OF_ONE, of_a_tenant: int = MOST_OF_A_TENANT, in_all: int = MOST_IN_ALL
    ) -> None:
        self.of_one = of_one
        self._of_a_tenant = of_a_tenant
        self._in_all = in_all
        self._held: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """All that is held now."""
        return self._held.total()

    @contextmanager
    def share(self, tenant: str) -> Iterator[Share]:
        """Have room for one reply until the end of the block."""
        share = Share(self, tenant)
        try:
            yield share
        finally:
            share.empty()

    def take(self, tenant: str, size: int) -> bool:
        """Hold so much more; False when there is no room for it."""
        if self._held[tenant] + size > self._of_a_tenant or self.total + size > self._in_all:
            return False
        self._held[tenant] += size
        return True

    def give_back(self, tenant: str, size: int) -> None:
        """Hold so much less."""
        self._held[tenant] -= size
        if not self._held[tenant]:
            del self._held[tenant]


class Share:
    """The room of one reply."""

    def __init__(self, holdings: Holdings, tenant: str) -> None:
        self._holdings = holdings
        self._tenant = tenant
        self._size = 0

    def take(self, text: str) -> bool:
        """Hold a piece; False when there is no room for it."""
        # First the text, then the answer that is made of it.
        size = max(sys.getsizeof(text), len(json.dumps(text, ensure_ascii=False).encode(errors="replace")))
        if self._size + size > self._holdings.of_one or not self._holdings.take(self._tenant, size):
            return False
        self._size += size
        return True

    def empty(self) -> None:
        """Give back all that was held."""
        self._holdings.give_back(self._tenant, self._size)
        self._size = 0
