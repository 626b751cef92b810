"""What a readout says about itself, whatever the task: what sweeps keep and policies look at."""

from torch import Tensor

from adapcli.errors import UsageError
from adapcli.evaluation.dense.tasks import dense_task
from adapcli.evaluation.outcomes import SIGNAL_NAMES, signals
from adapcli.model.perceiver import AdaPerceiver, Output


class ReadoutSignals:
    """The signals of a model's answers: `names`, and a call with an Output of n images -> (n, S) float32."""

    def __init__(self, model: AdaPerceiver) -> None:
        """UsageError for a model that neither names classes nor draws maps."""
        config = model.config
        if not (config.classifies or config.is_dense):
            raise UsageError(f"a {config.task} model's answers say nothing about themselves")
        self._task = dense_task(config, model.preprocessing.size) if config.is_dense else None
        self.names = SIGNAL_NAMES if self._task is None else self._task.signal_names

    def __call__(self, output: Output) -> Tensor:
        """See the class."""
        if self._task is None:
            assert output.logits is not None
            return signals(output.logits)
        assert output.coarse is not None
        return self._task.signals(output.coarse)
