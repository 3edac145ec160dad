"""Parameter-efficient training: small adapters learn, the model's own weights stay, and both become one at the end."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from compress.errors import InputError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_EVERYWHERE = "all-linear"
# Those whose merge is proven to change no answer. Of peft's others some add tokens or modules that stay apart, some
# share weights between modules, which only peft's own wrapper sets up, and some say that they merge and do not.
MERGING = (
    "adamss beft boft c3a deft delora fourierft glora gralora hira hra ia3 ln_tuning loha lokr lora miss oft osf "
    "peanut psoft randlora road shira waveft"
).split()


class Adapter(BaseModel):
    """A method of `peft` with its options under peft's own names.

    Example:
        adapter: {method: lora, r: 16, lora_alpha: 32}
    """

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    method: str


@contextmanager
def adapted(model: PreTrainedModel, adapter: Adapter | None) -> Iterator[None]:
    """Give `model` adapters for a while; at the end they are merged into its weights and gone.

    While they are there, the encoder's own weights are frozen; what lies outside it, the head, is trained.

    Raises:
        InputError: see `peft_config`; or the method does not know the model.
    """
    if adapter is None:
        yield
        return
    from peft import inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    required = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    named = "target_modules" in (adapter.model_extra or {})
    try:
        # The head is trained itself: some methods cannot adapt one of three labels, and none needs to.
        inject_adapter_in_model(peft_config(adapter), model if named else model.base_model)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"{adapter.method} cannot be put into the model ({first_line(error)})",
            place="adapter",
            remedy="Name its modules as target_modules, or take lora.",
        ) from error
    inside = {id(parameter) for parameter in model.base_model.parameters()}
    for parameter in model.parameters():
        if id(parameter) not in inside:
            parameter.requires_grad_(True)
    try:
        yield
    finally:
        for name, layer in list(model.named_modules()):
            if isinstance(layer, BaseTunerLayer):
                layer.merge()
                model.set_submodule(name, layer.get_base_layer())
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(required.get(name, True))


def peft_config(adapter: Adapter) -> Any:
    """Return peft's configuration of an adapter, on all linear modules of the encoder unless it says otherwise.

    Raises:
        InputError: there is no such method, it cannot be merged into weights, or it has no such option.
    """
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kinds = {str(kind.value).lower(): kind for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    kind = kinds.get(adapter.method.lower())
    if kind is None or kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise InputError(
            f"peft has no method {adapter.method!r}",
            place="adapter",
            remedy=f"Take one of {', '.join(MERGING)}.",
        )
    if adapter.method.lower() not in MERGING:
        raise InputError(
            f"{adapter.method} cannot be merged into the weights layer by layer, and no later pass and no export "
            "knows what stays apart",
            place="adapter",
            remedy=f"Take one of {', '.join(MERGING)}.",
        )
    config = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    options = dict(adapter.model_extra or {})
    known = inspect.signature(config).parameters
    if unknown := sorted(set(options) - set(known)):
        raise InputError(
            f"{adapter.method} has no option {', '.join(unknown)}",
            place="adapter",
            remedy=f"Its options: {', '.join(sorted(known))}.",
        )
    if "target_modules" in known:
        options.setdefault("target_modules", _EVERYWHERE)
    if "save_projection" in known:
        # randlora's, which all layers share and a checkpoint cannot hold; the seed makes it.
        options.setdefault("save_projection", False)
    try:
        return config(**options)
    except (ValueError, TypeError) as error:
        raise InputError(f"{adapter.method}: {first_line(error)}", place="adapter") from error
