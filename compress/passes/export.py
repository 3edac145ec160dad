"""Write a model as an ONNX file that ONNX Runtime and others can run."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from compress.passes.base import Context, ModelPlan, Pass

if TYPE_CHECKING:
    from compress.artifact import Artifact


class Export(Pass):
    """Add `onnx/model.onnx` (float32) or `onnx/model_quantized.onnx` (int8) to the folder.

    Batch and length stay free. The file is compared with the torch model before it counts: same logits at other
    shapes, same int8 codes, all products in int8.

    Example:
        - {pass: export}
    """

    name: ClassVar[str] = "export"
    changes_answers: ClassVar[bool] = False
    pass_: Literal["export"] = Field("export", alias="pass")

    def check(self, plan: ModelPlan) -> None:
        """Refuse a second export."""
        if plan.exported:
            plan.refuse("the model is exported already", "Keep one export, as the last pass.")
        plan.exported = True

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        """Return the artifact with the file attached; notes say what was checked."""
        from compress.exporting import export_onnx

        path = export_onnx(artifact, context.workdir, context.notes)
        files = {f"onnx/{file.name}": file for file in sorted(path.parent.glob(f"{path.name}*"))}
        return artifact.evolve(attachments=files)
