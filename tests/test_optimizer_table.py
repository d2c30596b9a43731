"""docs/optimizers.md tells what the table of optimizers holds."""

from __future__ import annotations

from engine.optimizer_kinds import OPTIMIZERS
from engine.optimizer_table import TARGET, page
from engine.schedules import SCHEDULES


def test_the_page_in_the_docs_is_the_one_made_from_the_table():
    assert TARGET.read_text(encoding="utf-8") == page(), "run: python -m engine.optimizer_table"


def test_every_optimizer_and_schedule_has_its_row():
    text = page()
    assert all(text.count(f"\n| `{name}` |") == 2 for name in OPTIMIZERS if name != "adafactor")
    assert all(f"\n| `{name}` |" in text for name in SCHEDULES)


def test_extra_arguments_are_named_with_ours_as_default():
    text = page()
    assert "`d_coef=1.0`" in text and "`max_precondition_dim=256`" in text
    assert "`betas=0.98,0.92,0.99`" in text
