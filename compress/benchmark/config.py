"""What a recipe has under `bench:`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator

Runtime = Literal["torch", "onnxruntime", "openvino", "openvino-bf16"]


Noise = Literal["typos", "lower-case", "upper-case"]


class BenchConfig(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """How models are timed and scored.

    ```yaml
    bench:
      runtimes: [torch, onnxruntime]
      batch_sizes: [1, 8]
      sequence_lengths: [32, 128]
      threads: 1
    ```
    """

    runtimes: tuple[Runtime, ...] = Field(
        ("torch", "onnxruntime"),
        min_length=1,
        description="Where models run; the first is the reference's. OpenVINO reads the same ONNX file, in "
        "float32 or bfloat16.",
    )
    batch_sizes: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        (1, 8), min_length=1, description="Examples in one call."
    )
    sequence_lengths: tuple[Annotated[int, Field(ge=1, le=131072)], ...] = Field(
        (32, 128), min_length=1, description="Tokens in each example; inputs are full, without padding."
    )
    texts: int = Field(
        0,
        ge=0,
        le=1000,
        description="Texts of the test set that are timed as they are too, one a call; a run is all of them "
        "once, its time the mean of a call.",
    )
    callers: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field(
        (),
        description="Also measure the throughput with so many threads that call a model at once, with one "
        "example of the first length each.",
    )
    noise: tuple[Noise, ...] = Field(
        (),
        description="Also score the test set with noise in its texts: letters swapped in a tenth of the "
        "words (typos), lower-case or upper-case.",
    )
    threads: int = Field(
        1, ge=1, le=1024, description="Threads of each runtime. One compares best on a machine others use."
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="What models run on.")
    rounds: int = Field(
        12,
        ge=1,
        le=200,
        description="Times that every model takes its turn. Below 5 no interval can be given.",
    )
    seconds: float = Field(
        60,
        gt=0,
        le=86400,
        description="Time for timed runs, all models together; slow models get fewer runs and rounds, never "
        "fewer than 5 rounds of one run (or `rounds`, where that is less), whatever it takes.",
    )
    accuracy_batch_size: int = Field(
        8,
        ge=1,
        le=4096,
        description="Examples in one call when answers are scored, alike for all: dynamic int8 has one "
        "activation scale a batch, so answers depend a little on it.",
    )

    @field_validator("runtimes", "batch_sizes", "sequence_lengths", "callers", "noise")
    @classmethod
    def _each_once(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(values)) != len(values):
            raise ValueError("every value may be given once")
        return values
