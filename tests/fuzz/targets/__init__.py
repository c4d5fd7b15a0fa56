"""All targets, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tests.fuzz.target import Target
from tests.fuzz.targets.device import Device
from tests.fuzz.targets.frames import Frames
from tests.fuzz.targets.machine import Machine
from tests.fuzz.targets.nodes import Nodes
from tests.fuzz.targets.noise import Noise
from tests.fuzz.targets.protobufs import Protobufs
from tests.fuzz.targets.signal import Signal
from tests.fuzz.targets.stanzas import Stanzas

TARGETS: Final[Mapping[str, Callable[[], Target]]] = {
    kind.name: kind for kind in (Nodes, Frames, Noise, Protobufs, Stanzas, Signal, Machine, Device)
}
