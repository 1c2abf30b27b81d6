from __future__ import annotations

import pytest

from sessionctl.core import budget
from sessionctl.core.budget import TenantBudget
from sessionctl.testing.clock import FakeClock

RATE = 1000


async def test_a_second_is_there_at_once_and_the_rest_is_waited_for() -> None:
    clock = FakeClock()
    tenants = TenantBudget(clock, RATE)
    assert [tenants.charge("a", size) for size in (600, 400, 500, 1000)] == pytest.approx([0, 0, 0.5, 1.5])
    await clock.sleep(1.5)
    assert tenants.charge("a", 1) == pytest.approx(0.001)
    await clock.sleep(100)
    # No more than a second's worth is saved up.
    assert tenants.charge("a", 2 * RATE) == pytest.approx(1)


async def test_nobody_waits_for_another_tenant() -> None:
    tenants = TenantBudget(FakeClock(), RATE)
    assert tenants.charge("greedy", 1 << 30) > 1000
    assert tenants.charge("modest", 10) == 0


async def test_tenants_whose_budget_is_full_are_forgotten_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MOST_BUCKETS", 2)
    clock = FakeClock()
    tenants = TenantBudget(clock, RATE)
    tenants.charge("idle", 100)
    tenants.charge("greedy", 10 * RATE)
    await clock.sleep(1)
    tenants.charge("new", 100)
    assert len(tenants._full_at) == 2
    assert tenants.charge("greedy", 0) == pytest.approx(8)
