"""GRU4Rec against its paper's formulas."""

import torch
from small_models import GRU4REC, model_of, sequences


def test_gru4rec_is_the_recurrence():
    model, items = model_of(GRU4REC), sequences(1, 6)
    x = model.items.weight[items[0]]
    for layer in range(2):
        into, back = (getattr(model.gru, f"weight_{kind}_l{layer}").chunk(3) for kind in ("ih", "hh"))
        h, states = torch.zeros(12, dtype=torch.float64), []
        for x_t in x:
            r, z = (torch.sigmoid(into[gate] @ x_t + back[gate] @ h) for gate in (0, 1))
            h = (1 - z) * torch.tanh(into[2] @ x_t + r * (back[2] @ h)) + z * h
            states.append(h)
        x = torch.stack(states)
    torch.testing.assert_close(model(items)[0], x @ model.output.weight.T + model.output.bias)
