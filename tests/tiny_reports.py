"""Reports of benches that never ran."""

from compress.benchmark import BenchConfig
from compress.benchmark.report import Latency, Ratio, Report, Row


def row(name, runtime="torch", speedup=None, p50=10.0, metric=None, **changes):
    return Row(
        **{
            "name": name,
            "runtime": runtime,
            "device": "cpu",
            "threads": 1,
            "batch_size": 1,
            "sequence_length": 32,
            "latency_ms": Latency(p50=p50, p95=12, p99=13),
            "throughput": 1000 / p50,
            "load_s": 1.5,
            "peak_rss_mb": 300,
            "size_mb": 90,
            "parameters": 22_700_000,
            "metric": metric,
            "agreement_with_first": 99.0 if metric else None,
            "speedup_vs_first": speedup or Ratio(value=1, ci95=(1, 1)),
            "smaller_vs_first": 1,
            **changes,
        }
    )


def report(*rows, **fields):
    fields = {"created": "2026-01-01T00:00:00+00:00", "seed": 0, "config": BenchConfig(), **fields}
    return Report(machine={"processor": "P", "cpu_flags": ["amx_int8"]}, rows=rows, **fields)
