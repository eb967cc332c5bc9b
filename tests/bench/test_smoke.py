"""The real echo server, its naive twin and the runner, with settings that measure nothing but prove that all works."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench import servers
from bench.caller import Caller
from bench.cases import B16, B32, RAGGED, Case, Direction, Mode, Shape, grid
from bench.inprocess import PEERS, TINK_SIV, InProcess
from bench.load import Load
from bench.run import ECHO, LOOP, Effort, Runner
from bench.servers import Server

_TINY = Effort(repeats=2, seconds=0.002)


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.echo(tmp_path_factory.mktemp("e")) as server:
        yield server


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.echo(tmp_path_factory.mktemp("l"), loop=True) as server:
        yield server


async def test_the_echo_answers_every_case_with_the_sizes_of_the_format(echo: Server) -> None:
    async with Caller(echo, exact=False) as caller:
        for case in grid(rows=(1, 7, 300), sizes=(B16, RAGGED)):
            await caller.contender(case, in_flight=1)  # Raises where a row has another length.


async def test_the_naive_sidecar_really_encrypts(loop: Server) -> None:
    async with Caller(loop, exact=True) as caller:
        for mode in Mode:
            case = Case(RAGGED, 40, Shape.VALUES, mode, Direction.DECRYPT)
            await caller.contender(case, in_flight=1)  # Raises where the plaintext does not come back.


async def test_cases_are_measured_side_by_side(echo: Server, loop: Server) -> None:
    case = Case(B32, 1_000, Shape.VALUES, Mode.DETERMINISTIC, Direction.ENCRYPT)
    steps: list[str] = []
    async with Caller(echo, exact=False) as first, Caller(loop, exact=True) as second:
        alone, together = await Runner([first, second], _TINY, steps.append).measure([case])
    assert [alone.in_flight, together.in_flight] == [1, 4]
    assert {name: len(repeats) for name, repeats in together.repeats.items()} == {ECHO: 2, LOOP: 2}
    assert all(repeat.calls >= 4 for repeats in together.repeats.values() for repeat in repeats)
    assert all(0 < repeat.p50 <= repeat.p99 for repeat in alone.repeats[ECHO])
    assert len(steps) == 2


async def test_a_contender_that_fails_is_named_and_the_others_are_measured(echo: Server, loop: Server) -> None:
    # The naive sidecar takes no columns, so under another name it is a server that fails.
    broken = Server("sidecar", loop.target, loop.pid)
    case = Case(B32, 100, Shape.COLUMN, Mode.DETERMINISTIC, Direction.ENCRYPT)
    async with Caller(echo, exact=False) as first, Caller(broken, exact=True) as second:
        (found, _) = await Runner([first, second], _TINY, lambda _: None).measure([case])
    assert found.failures == {"sidecar": "UNKNOWN"}
    assert set(found.repeats) == {ECHO}


@pytest.mark.parametrize("peer", PEERS)
def test_every_cipher_in_process_gives_the_values_back(peer: str) -> None:
    values = [b"", b"a", bytes(64)]
    assert InProcess().work(peer, Direction.DECRYPT, values)() == values
    assert all(a != b for a, b in zip(InProcess().work(peer, Direction.ENCRYPT, values)(), values, strict=True))


async def test_ciphers_in_process_are_measured_for_each_size_and_direction() -> None:
    cases = list(grid(rows=(1, 10), sizes=(B16,)))
    rates = await Runner([], _TINY, lambda _: None).peers(cases)
    assert {(rate.peer, rate.direction) for rate in rates} == {(peer, way) for peer in PEERS for way in Direction}
    assert all(rate.values_per_second > 0 for rate in rates)
    assert any(rate.peer == TINK_SIV for rate in rates)


async def test_the_load_of_a_soak_holds_good_cancelled_and_short_calls(echo: Server) -> None:
    async with Load(echo.target) as load:
        await load.run(1.0)
    assert load.tally.as_intended, load.tally


def test_a_server_is_gone_when_its_block_ends(tmp_path: Path) -> None:
    with servers.echo(tmp_path) as server:
        assert server.resident_bytes() > 1_000_000
    assert not psutil.pid_exists(server.pid)


def test_a_server_that_does_not_come_up_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "ROOT", tmp_path)  # Where ``-m bench.echo`` is not to be found.
    failed = pytest.raises(servers.ServerFailedError, match=r"echo ended with code 1: .*No module named")
    with failed, servers.echo(tmp_path):
        pass
