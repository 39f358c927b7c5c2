from __future__ import annotations

from collections.abc import Iterator

import pytest
from sparse_actors.drivers.sharksem import SharkSemMicroscope
from sparse_actors.drivers.sharksem.fake_instrument import FakeInstrument
from sparse_actors.drivers.sharksem.fake_server import FakeServer

from sparse_actors.contracts.microscope import Microscope
from sparse_actors.testing.microscope_contract import MicroscopeContract


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(instrument=FakeInstrument(time_scale=100)) as server:
        yield server


class TestSharkSem(MicroscopeContract):
    @pytest.fixture
    def microscope(self, server: FakeServer) -> Iterator[Microscope]:
        microscope = SharkSemMicroscope(host="127.0.0.1", port=server.port)
        yield microscope
        microscope.disconnect()
