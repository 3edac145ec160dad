"""Write a model as an ONNX file that ONNX Runtime and others can run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from compress.errors import InputError
from compress.passes.base import Context, ModelPlan, Pass

if TYPE_CHECKING:
    from compress.artifact import Artifact

_BUNDLED = ("classification", "regression", "multilabel")  # what the bundle's runners know to answer


class Export(Pass):
    """Add `onnx/model.onnx` (float32) or `onnx/model_quantized.onnx` (int8) to the folder.

    Batch and length stay free. The file is compared with the torch model before it counts: same logits at other
    shapes, same int8 codes, all products in int8.

    Example:
        - {pass: export, bundle: true}
        - {pass: export, opset: 17, mobile: true}
    """

    name: ClassVar[str] = "export"
    changes_answers: ClassVar[bool] = False
    pass_: Literal["export"] = Field("export", alias="pass")
    opset: int = Field(20, ge=17, description="version of ONNX's operators; older runtimes want a lower one")
    mobile: bool = Field(
        False, description="Add the graph in ONNX Runtime's own format, .ort, which its mobile builds read."
    )
    bundle: bool = Field(
        False,
        description="Add bundle/, a folder of its own that needs no torch: the ONNX file, tokenizer, runners for "
        "Python, Node and the browser, README, model card and checksums.",
    )
    report: Path | None = Field(
        None, description="A bench's report.json; its table goes into the bundle's README."
    )

    def check(self, plan: ModelPlan) -> None:
        """Refuse a second export, an unknown opset, a bundle without a head, a report that cannot be read."""
        from compress.benchmark.report import read_report
        from compress.exporting.opset import runs_opset

        if plan.exported:
            plan.refuse("the model is exported already", "Keep one export, as the last pass.")
        plan.exported = True
        if not runs_opset(self.opset):
            plan.refuse(
                f"the installed ONNX Runtime does not run opset {self.opset}",
                "Give a lower one; 20 is the default.",
            )
        if self.bundle and plan.task is None:
            plan.refuse(
                "a bundle needs a model with a trained head", "Fine-tune it first, or leave bundle out."
            )
        if self.bundle and plan.task is not None and plan.task.kind not in _BUNDLED:
            plan.refuse(
                f"a bundle's runners do not read {plan.task.kind} yet",
                "Leave bundle out; the ONNX file is made all the same.",
            )
        if self.report is None:
            return
        if not self.bundle:
            plan.refuse(
                "a report goes into a bundle, and none is asked for", "Add bundle, or leave report out."
            )
        try:
            read_report(self.report)
        except InputError as error:
            plan.refuse(f"{error.place}: {error.cause}", error.remedy)

    def input_files(self) -> tuple[Path, ...]:
        """The report, where one is given."""
        return () if self.report is None else (self.report,)

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        """Return the artifact with the files attached; notes say what was checked."""
        from compress.benchmark.report import read_report
        from compress.exporting import export_onnx
        from compress.exporting.bundle import write_bundle

        path = export_onnx(artifact, context.workdir, context.notes, self.opset, self.mobile)
        files = {f"onnx/{file.name}": file for file in sorted(path.parent.glob(f"{path.stem}.*"))}
        if self.bundle:
            shutil.rmtree(context.workdir / "bundle", ignore_errors=True)  # of a run that was cut off
            folder = write_bundle(
                artifact,
                path,
                context.workdir / "bundle",
                notes=context.notes,
                examples=len(context.data.validation) if context.data else None,
                report=None if self.report is None else read_report(self.report),
            )
            made = [file for file in sorted(folder.rglob("*")) if file.is_file()]
            files |= {f"bundle/{file.relative_to(folder).as_posix()}": file for file in made}
            size = sum(file.stat().st_size for file in made)
            context.notes.append(f"bundle: {len(made)} files, {size / 1e6:.1f} MB")
        return artifact.evolve(attachments=files)
