"""torchvision, imported only where it is used and also beside a torch without CUDA."""

import importlib
from typing import Any

# declarations must outlive the import, or torch forgets them
_declared: list[Any] = []


def torchvision(module: str = "torchvision") -> Any:
    """Import torchvision or one of its modules.

    Beside a torch without CUDA the wheel's compiled part does not load, and the import fails for
    two operators that it would define.  Declaring them is enough, nothing here calls them.
    """
    import torch  # seconds that whoever only asks where a checkpoint lies need not wait

    if torch.version.cuda is None and not _declared:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in (
            "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        ):
            try:
                library.define(schema)
            except RuntimeError as error:
                # a torchvision whose compiled part does load has declared them itself
                if "duplicate" not in str(error) and "multiple times" not in str(error):
                    raise
        _declared.append(library)
    return importlib.import_module(module)
