"""How much of replies is held for those who wait."""

from __future__ import annotations

import pytest

from sessionctl.core.holdings import Holdings


def test_one_reply_has_so_much_room_and_gives_it_back() -> None:
    holdings = Holdings(of_one=1000, of_a_tenant=10_000, in_all=10_000)
    with holdings.share("a") as share:
        assert share.take("x" * 400)
        assert not share.take("x" * 600)
        share.empty()
        assert holdings.total == 0
        assert share.take("x" * 600)
        assert holdings.total >= 600
    assert holdings.total == 0


@pytest.mark.parametrize("text", ["\x01" * 300, "\U0001f600" * 300], ids=["six bytes in JSON", "wide in memory"])
def test_a_text_counts_as_what_it_takes(text: str) -> None:
    holdings = Holdings(of_one=1000, of_a_tenant=10_000, in_all=10_000)
    with holdings.share("a") as share:
        assert not share.take(text)


def test_no_tenant_takes_what_there_is_from_others_nor_all_of_them_more_than_there_is() -> None:
    holdings = Holdings(of_one=1000, of_a_tenant=1500, in_all=2500)
    with holdings.share("a") as first, holdings.share("a") as second, holdings.share("b") as third:
        assert first.take("x" * 900)
        assert not second.take("x" * 900)
        assert third.take("x" * 900)
        with holdings.share("c") as fourth:
            assert not fourth.take("x" * 900)
            first.empty()
            assert fourth.take("x" * 900)
    assert holdings.total == 0
