"""The choice of the inner loop's form."""

import pytest
import torch

from etarec.kernels import build, inner_loop, inner_loop_c, inner_loop_triton
from etarec.ttt import TTTLayer

FORMS = ("inner_loop_triton", "inner_loop_c", "dual")  # the first that takes the tensors runs


@pytest.mark.parametrize("running", FORMS)
def test_the_first_form_that_takes_the_tensors_runs(running, monkeypatch):
    chosen = FORMS.index(running)
    for place, module in enumerate((inner_loop_triton, inner_loop_c)):
        monkeypatch.setattr(module, "takes", lambda *_, place=place: place >= chosen)
        monkeypatch.setattr(module, "inner_loop", lambda *_, name=FORMS[place]: name)
    monkeypatch.setattr(inner_loop, "dual", lambda *_: "dual")
    x = torch.empty(1)
    assert inner_loop.inner_loop(x, x, x, x, x, [], None, None) == running


@pytest.mark.skipif(build.compiler() is None, reason="needs a C compiler")
def test_a_layer_of_the_default_sizes_runs_in_c(monkeypatch):
    layer, x = TTTLayer(64, 4, "mlp", 8, inner_rate=1.0, rope_base=1000.0), torch.randn(2, 9, 64)
    assert layer.form is inner_loop.inner_loop
    ran, run = [], inner_loop_c.inner_loop
    monkeypatch.setattr(inner_loop_c, "inner_loop", lambda *given: (ran.append(True), run(*given))[1])
    layer(x)
    assert ran == [True]


@pytest.mark.parametrize(("compiler", "starts"), [("/usr/bin/cc", "triton "), (None, "torch")])
def test_the_form_on_a_gpu_is_named(compiler, starts, monkeypatch):
    pytest.importorskip("triton", reason="the GPU form needs Triton")
    monkeypatch.setattr(inner_loop, "compiler", lambda: compiler)
    assert inner_loop.kernels().startswith(starts)
