"""GRU4Rec (Hidasi et al. 2016, arXiv 1511.06939), trained with cross-entropy over all items (Tan et al. 2016)."""

from typing import ClassVar, Self

from torch import Tensor, nn

from etarec.config import ModelConfig
from etarec.models.base import SequenceModel
from etarec.ragged import EVERY_POSITION, OutputPositions


class GRU4Rec(SequenceModel):
    """Embedding -> GRU layers of width `mlp_width` -> Linear to D."""

    projection_names: ClassVar[tuple[str, ...]] = ("gru",)

    def __init__(self, config: ModelConfig, n_items: int, dropout: float):
        super().__init__(config, n_items, dropout)
        self.gru = nn.GRU(config.width, config.mlp_width, config.blocks, bias=False, batch_first=True)
        self.output = nn.Linear(config.mlp_width, config.width)
        nn.init.xavier_normal_(self.items.weight.detach()[1:])
        nn.init.zeros_(self.items.weight.detach()[0])
        nn.init.zeros_(self.output.bias)
        for weight in self.gru.parameters():
            nn.init.xavier_uniform_(weight)

    def train(self, mode: bool = True) -> Self:
        """Leaves the GRU in training mode, because cuDNN computes its gradients only there; it has no dropout."""
        super().train(mode)
        self.gru.train()
        return self

    def encode(self, x: Tensor, outputs: OutputPositions = EVERY_POSITION) -> Tensor:
        return self.output(outputs.of(self.gru(x)[0]))
