"""From a batch to the rows of a table.

B batch, C configurations, S signals, F features, K classes.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapcli.data.dataset import Batch
from adapcli.data.features import image_features
from adapcli.evaluation.outcomes import SIGNAL_NAMES, outcomes
from adapcli.evaluation.passes import GridPass
from adapcli.evaluation.patches import pooled
from adapcli.evaluation.recalibration import Recalibrated
from adapcli.model.precision import autocast

Rows = dict[str, NDArray[np.generic]]


def score_batch(
    grid: GridPass,
    batch: Batch,
    *,
    full: int,
    dtype: torch.dtype = torch.float32,
    patches: int = 0,
    recalibrated: Recalibrated | None = None,
) -> Rows:
    """Run every configuration on a batch: the table's arrays by name, B rows each.

    full: the column of the full configuration, with which the others agree or not.
    dtype: of the run, by autocast; what is stored is worked out in float32 from the logits as they come.
    patches: also keep the patch embeddings, averaged into this many along each side; 0: none.
    recalibrated: what the logits become before anything is worked out from them.
    Without labels (targets of -1) there is no nll, and the score is the agreement.
    """
    labelled = bool((batch.targets >= 0).all())
    device, targets = grid.model.device, batch.targets.clamp(min=0)
    with autocast(device, dtype):
        found = _outcomes(grid, batch.images.to(device), targets.to(device), patches, recalibrated)
    found["agreement"] = (found["prediction"] == found["prediction"][:, [full]]).float()
    if not labelled:
        found["score"] = found["agreement"]
        del found["nll"]
    found["features"] = image_features(batch.images)
    return {name: values.cpu().numpy() for name, values in found.items()}


@torch.inference_mode()
def _outcomes(
    grid: GridPass, images: Tensor, targets: Tensor, side: int, recalibrated: Recalibrated | None
) -> dict[str, Tensor]:
    shape = (len(images), grid.n_configs)
    score, nll = images.new_empty(shape), images.new_empty(shape)
    signals = images.new_empty((*shape, len(SIGNAL_NAMES)))
    prediction = targets.new_empty(shape)
    embedded = grid.model.embed(images)
    for columns, logits in grid.outputs(images, embedded):
        logits = logits if recalibrated is None else recalibrated(logits, columns)
        answer = outcomes(logits, targets[:, None])
        score[:, columns], nll[:, columns] = answer.hit, answer.nll
        signals[:, columns], prediction[:, columns] = answer.signals, answer.prediction
    found = {"score": score, "nll": nll, "signals": signals, "prediction": prediction}
    return found | ({"patches": pooled(embedded, side).half()} if side else {})
