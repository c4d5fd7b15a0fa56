"""Function by function: what Baileys' own functions make of our bytes, and we of theirs.

The sockets of both are left out: the same inputs go to both, and where no chance is in it both have
to have the same bytes. The bench times these functions afterwards.
"""

from __future__ import annotations

from pathlib import Path

from bench.agreement import check_agreement
from bench.baileys import baileys
from bench.functions import make_rows
from bench.inputs import make_inputs
from tests.peers.baileys import ensure_baileys


async def test_functions_of_baileys_and_ours_understand_each_other(tmp_path: Path) -> None:
    ensure_baileys()
    inputs = make_inputs()
    async with baileys(inputs, tmp_path) as other:
        await check_agreement(inputs, make_rows(inputs), other)
