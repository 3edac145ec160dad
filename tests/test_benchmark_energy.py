"""Energy counters, on a folder that looks like the kernel's."""

import pytest
from test_benchmark_report import report, row

from compress.benchmark import latency
from compress.benchmark.config import BenchConfig
from compress.benchmark.energy import Counters
from compress.benchmark.latency import measure
from compress.benchmark.shapes import Shape
from compress.benchmark.tables import details


def zone(root, name, microjoules, limit=1_000_000):
    folder = root / name
    folder.mkdir()
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{limit}\n")
    return folder / "energy_uj"


def test_packages_count_and_their_parts_do_not(tmp_path):
    first, second = zone(tmp_path, "intel-rapl:0", 1000), zone(tmp_path, "intel-rapl:1", 999_000)
    zone(tmp_path, "intel-rapl:0:0", 5)
    (tmp_path / "dtpm").mkdir()
    counters = Counters.find(tmp_path)
    before = counters.read()
    first.write_text("4000\n")
    second.write_text("1000\n")  # it began anew at its range

    assert counters.drawn(before, counters.read()) == pytest.approx(3 + 2)


def test_a_machine_that_tells_nothing_has_no_counters(tmp_path):
    assert Counters.find(tmp_path / "missing") is None
    broken = zone(tmp_path, "intel-rapl:0", 1)
    broken.write_text("1")
    (broken.parent / "max_energy_range_uj").write_text("?")
    assert Counters.find(tmp_path) is None


class Busy:
    """A worker whose every run takes 1 ms and 2 mJ of a counter."""

    def __init__(self, counter):
        self.counter = counter

    def ask(self, request):
        if request["do"] == "warm":
            return {"seconds": 1e-3, "first": 0.1}
        runs = request["runs"] + request["discard"]
        self.counter.write_text(str(int(self.counter.read_text()) + 2000 * runs))
        return {"nanoseconds": [10**6] * request["runs"]}


def test_a_bench_says_what_a_call_draws(tmp_path, monkeypatch):
    counter = zone(tmp_path, "intel-rapl:0", 0, limit=10**12)
    monkeypatch.setattr(latency.Counters, "find", lambda: Counters(((counter, 10**12),)))
    shape = Shape(1, 32)

    found = measure([Busy(counter)], [[shape]], {(0, shape): tmp_path}, BenchConfig(seconds=0.1), seed=0)

    assert found.millijoules == {(0, shape): pytest.approx(2)}
    assert (found.times[0, shape] == 1).all()


def test_the_table_has_a_column_where_energy_was_counted():
    assert "mJ a call" not in details(report(row("a"))).head
    table = details(report(row("a", energy_mj=12.3), row("b")))
    assert table.head[-1] == "mJ a call"
    assert [line[-1] for line in table.rows] == ["12.3", "–"]
