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
from adapcli.model.precision import autocast

Rows = dict[str, NDArray[np.generic]]


def score_batch(grid: GridPass, batch: Batch, *, full: int, dtype: torch.dtype = torch.float32) -> Rows:
    """Run every configuration on a batch: the table's arrays by name, B rows each.

    full: the column of the full configuration, with which the others agree or not.
    dtype: of the run, by autocast; what is stored is worked out in float32 from the logits as they come.
    """
    device = grid.model.device
    with autocast(device, dtype):
        found = _outcomes(grid, batch.images.to(device), batch.targets.to(device))
    found["agreement"] = (found["prediction"] == found["prediction"][:, [full]]).float()
    found["features"] = image_features(batch.images)
    return {name: values.cpu().numpy() for name, values in found.items()}


@torch.inference_mode()
def _outcomes(grid: GridPass, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    shape = (len(images), grid.n_configs)
    score, nll = images.new_empty(shape), images.new_empty(shape)
    signals = images.new_empty((*shape, len(SIGNAL_NAMES)))
    prediction = targets.new_empty(shape)
    for columns, logits in grid.outputs(images):
        answer = outcomes(logits, targets[:, None])
        score[:, columns], nll[:, columns] = answer.hit, answer.nll
        signals[:, columns], prediction[:, columns] = answer.signals, answer.prediction
    return {"score": score, "nll": nll, "signals": signals, "prediction": prediction}
