"""BERT4Rec against its paper's formulas."""

import torch
from small_models import BERT4REC, gelu, layer_norm, model_of, sequences, transformer_states


def test_bert4rec_attends_to_both_sides_and_answers_at_the_mask():
    model, items = model_of(BERT4REC), sequences(1, 7)
    x = torch.cat([model.items.weight[items[0]], model.mask[None]])
    state = transformer_states(model, x, [list(range(8))] * 8)[-1]
    expected = layer_norm(gelu(state @ model.output.weight.T + model.output.bias), model.output_norm)
    torch.testing.assert_close(model(items)[0, 0], expected)
