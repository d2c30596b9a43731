"""docs/captioning.md names every captioner and setting as they are."""

from __future__ import annotations

import re

from captioning.captioners import CAPTIONERS
from captioning.settings_table import TARGET, page


def test_the_table_of_settings_is_as_it_is_made():
    assert TARGET.read_text(encoding="utf-8") == page()


def test_every_captioner_is_told_with_the_files_that_it_needs():
    told = TARGET.read_text(encoding="utf-8").partition("## Which captioner")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", told, re.MULTILINE) == ["captioner", *CAPTIONERS]
