"""What the mirror keeps in memory of sessions and of their troubles, with the indexes it is asked by."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, TypeVar

from sessionctl.core.changes import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sessionctl.models import SessionId, Trouble, Workspace

MAX_TROUBLES: Final = 10_000
"""Objects of which events are remembered; beyond it those are forgotten whose trouble is oldest."""

Key = TypeVar("Key")


class SessionTable:
    """The sessions, by id, by user, and which of a tenant's are awake."""

    def __init__(self) -> None:
        self.by_id: dict[SessionId, Workspace] = {}
        self._of_user: defaultdict[tuple[str, str], set[SessionId]] = defaultdict(set)
        self._awake: defaultdict[str, set[SessionId]] = defaultdict(set)

    def replace(self, listed: Iterable[Workspace]) -> Sequence[Change]:
        """Take over a whole list; what is not in it is gone."""
        found = {workspace.session_id: workspace for workspace in listed}
        gone = [self.put(session_id, None) for session_id in [known for known in self.by_id if known not in found]]
        return [*gone, *(self.put(session_id, workspace) for session_id, workspace in found.items())]

    def put(self, session_id: SessionId, after: Workspace | None) -> Change:
        """Note one session as it is now; None when it is gone."""
        before = self.by_id.pop(session_id, None)
        if before is not None:
            _discard(self._of_user, (before.owner.tenant, before.owner.user_id), session_id)
            _discard(self._awake, before.owner.tenant, session_id)
        if after is not None:
            self.by_id[session_id] = after
            self._of_user[after.owner.tenant, after.owner.user_id].add(session_id)
            if after.replicas:
                self._awake[after.owner.tenant].add(session_id)
        return Change(before, after)

    def count(self, tenant: str, user_id: str) -> int:
        """Count a user's sessions without those that are being deleted."""
        owned = self._of_user.get((tenant, user_id), ())
        return sum(self.by_id[session_id].deleted_at is None for session_id in owned)

    def list_awake(self) -> Sequence[Workspace]:
        """List those of all tenants that are awake or waking."""
        return [self.by_id[session_id] for held in self._awake.values() for session_id in held]

    def count_awake(self, tenant: str) -> int:
        """Count a tenant's sessions that are awake or waking."""
        return len(self._awake.get(tenant, ()))


class TroubleTable:
    """What events last said of each object."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], Trouble] = {}

    def find(self, kind: str, name: str) -> Trouble | None:
        """Return what was said last of one object."""
        return self._newest.get((kind, name))

    def clear(self) -> None:
        """Forget everything: a list follows."""
        self._newest.clear()

    def put(self, trouble: Trouble) -> None:
        """Note what an event says, if nothing newer is known of its object."""
        about = (trouble.about_kind, trouble.about_name)
        known = self._newest.get(about)
        if known is None or known.name == trouble.name or known.order <= trouble.order:
            self._newest[about] = trouble
        if len(self._newest) > MAX_TROUBLES:
            # A tenth at once, so that a namespace full of trouble is not sorted at every event.
            by_age = sorted(self._newest, key=lambda key: self._newest[key].seen_at)
            for oldest in by_age[: max(1, MAX_TROUBLES // 10)]:
                del self._newest[oldest]

    def drop(self, trouble: Trouble) -> None:
        """Forget an event that has expired; what was said last of an object expires last."""
        about = (trouble.about_kind, trouble.about_name)
        known = self._newest.get(about)
        if known is not None and known.name == trouble.name:
            del self._newest[about]

    def drop_object(self, kind: str, name: str) -> None:
        """Forget an object that is gone."""
        self._newest.pop((kind, name), None)


def _discard(index: dict[Key, set[SessionId]], key: Key, session_id: SessionId) -> None:
    held = index.get(key, set())
    held.discard(session_id)
    if not held:
        index.pop(key, None)
