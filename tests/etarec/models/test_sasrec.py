"""SASRec against its paper's formulas."""

import torch
from small_models import SASREC, model_of, sequences, transformer_states


def test_sasrec_attends_to_what_came_before():
    model, items = model_of(SASREC), sequences(1, 7)
    expected = transformer_states(model, model.items.weight[items[0]], [list(range(i + 1)) for i in range(7)])
    torch.testing.assert_close(model(items)[0], expected)
