"""The Triton kernels against the dual form: in Triton's interpreter, on CPU tensors, or on a GPU.

Triton reads TRITON_INTERPRET when it is imported, so the interpreted tests need a session of their own. The first test
starts it.
"""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from test_inner_loop_c import assert_as_dual, layer_of

from etarec.kernels import build, inner_loop_triton
from etarec.kernels.inner_loop import inner_loop
from etarec.ragged import OutputPositions
from etarec.ttt import InnerOptions

pytest.importorskip("triton", reason="the kernels need Triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(
    not INTERPRETED, reason="runs in the session of Triton's interpreter that the first test starts"
)


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter's session, which that test starts")
def test_in_a_session_of_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def kernels(monkeypatch):
    """The kernels, which `inner_loop` runs as on a GPU."""
    monkeypatch.setattr(inner_loop_triton, "takes", lambda *_: True)
    return inner_loop_triton._kernels()


@interpreted
@pytest.mark.parametrize(("length", "sinces"), [(1, (0,)), (7, (0,)), (8, (5,)), (9, (0, 8)), (17, (7, 16))])
def test_every_output_of_whole_sequences_and_the_last_ones(kernels, length, sinces):
    layer, scale = layer_of(32, 2), torch.linspace(0.2, 2.0, 2)
    for since in sinces:
        assert_as_dual(layer, torch.randn(2, length, 32), OutputPositions(since), InnerOptions(scale))


@interpreted
@pytest.mark.parametrize("lengths", [[1], [8], [9, 9, 4], [17, 16, 8, 7, 1]])
def test_the_last_output_of_sequences_of_their_own_lengths(kernels, lengths):
    """Tokens behind a sequence's end are not even read, and their gradient is 0."""
    x = torch.randn(len(lengths), lengths[0], 16)
    ends = torch.tensor(lengths, dtype=torch.int32)
    assert_as_dual(layer_of(16, 1), x, OutputPositions(lengths=ends))
    layer = layer_of(16, 1)
    behind = (torch.arange(lengths[0]) >= ends[:, None])[..., None]
    results = []
    for wild in (0.0, float("nan")):
        given = x.detach().masked_fill(behind, wild).requires_grad_()
        k = layer.split(given)
        out = layer.answer(k[:, :, :1], k, k, given[..., :1], None, ends)
        gradients = torch.autograd.grad(out.square().sum(), [given, *layer.fast_weights, layer.decay_offset])
        results.append((out, *gradients))
        assert not gradients[0].masked_select(behind).any()
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


@interpreted
@pytest.mark.parametrize("mini_batch", [4, 5, 16])
def test_other_mini_batches(kernels, mini_batch):
    assert_as_dual(layer_of(16, 1, mini_batch), torch.randn(1, 18, 16))
    assert_as_dual(layer_of(16, 1, mini_batch), torch.randn(2, 18, 16), OutputPositions(lengths=torch.tensor([18, 9])))


@interpreted
def test_results_are_the_same_from_run_to_run_and_for_a_sequence_alone(kernels):
    layer, x = layer_of(32, 2), torch.randn(2, 11, 32, requires_grad=True)
    first, second = (torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()]) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    q, k, v = (torch.randn(2, 11, 2, 16).transpose(1, 2) for _ in range(3))
    shared = (layer._decay(), *layer._fast_model())
    rate = torch.rand(2, 11, 2).transpose(1, 2) / 16
    together = inner_loop(q, k, v, rate, *shared)
    alone = [inner_loop(*(x[n : n + 1] for x in (q, k, v, rate)), *shared) for n in range(2)]
    assert torch.equal(torch.cat(alone), together)


@interpreted
def test_starting_weights_are_kept_for_gradients_alone(kernels, monkeypatch):
    kept, launch = [], inner_loop_triton._launch
    monkeypatch.setattr(inner_loop_triton, "_launch", lambda *given: (kept.append(given[3][-1]), launch(*given)))
    layer, x = layer_of(16, 1), torch.randn(1, 9, 16)
    with torch.no_grad():
        layer(x)
    layer(x)
    layer.requires_grad_(False)(x)
    assert [states is not None for states in kept] == [False, True, False]


@interpreted
def test_they_are_tried_out_with_their_gradient(kernels, monkeypatch):
    """On the CPU here; on a GPU, a trial run that failed would leave the work to torch."""
    launched, launch, ones = [], inner_loop_triton._launch, torch.ones
    monkeypatch.setattr(
        inner_loop_triton, "_launch", lambda kernel, *given: (launched.append(kernel), launch(kernel, *given))
    )
    monkeypatch.setattr(torch, "ones", lambda *sizes, device, **rest: ones(*sizes, **rest))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    with torch.no_grad():
        inner_loop_triton.try_out(16, 64, 8)
    assert launched == [kernels.forward_kernel, kernels.backward_kernel]


@pytest.mark.gpu
@pytest.mark.skipif(INTERPRETED, reason="Triton interprets the kernels in this session, it does not compile them")
def test_on_a_gpu():
    layer = layer_of().cuda()
    assert inner_loop_triton.takes(torch.empty(1, device="cuda"), layer.decay_offset, layer._fast_model()[0])
    for length in (1, 8, 50):
        for since in {0, length // 2, length - 1}:
            assert_as_dual(layer, torch.randn(5, length, 64, device="cuda"), OutputPositions(since))
    last = OutputPositions(lengths=torch.tensor([25, 16, 9, 1]))
    assert_as_dual(layer, torch.randn(4, 25, 64, device="cuda"), last)


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="Triton interprets the kernels in this session, it does not compile them")
@pytest.mark.parametrize("name", ["forward_kernel", "backward_kernel"])
@pytest.mark.parametrize("own_ends", [True, False])
def test_they_compile_for_a_gpu_that_is_not_here(name, own_ends):
    """To machine code of compute capability 9.0, in the default sizes."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    kernel, sizes = getattr(inner_loop_triton._kernels(), name), {"F": 16, "G": 64, "M": 8, "MP": 16}
    constants = sizes if own_ends else {**sizes, "lengths": None}
    whole_numbers = {each for each in kernel.arg_names if each[-2:] in ("_n", "_h", "_l")} | {"H", "L", "Q", "batches"}
    kinds = {each: "i32" if each in whole_numbers else "*fp32" for each in kernel.arg_names}
    kinds |= {"lengths": "*i32"} | dict.fromkeys(constants, "constexpr")
    made = compile(
        ASTSource(fn=kernel, signature=kinds, constexprs=constants),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": inner_loop_triton.FORWARD_WARPS},
    )
    assert made.asm["cubin"]


@pytest.fixture
def first_use():
    """A process that has not tried the kernels yet."""
    inner_loop_triton._starts.cache_clear()
    yield
    inner_loop_triton._starts.cache_clear()


on_gpu = pytest.mark.skipif(
    INTERPRETED or build.compiler() is None, reason="needs a C compiler and kernels that are not interpreted"
)


def given(layer):
    """Arguments of `takes` for the layer's tensors on a GPU."""
    return SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32), layer.decay_offset, layer._fast_model()[0]


@on_gpu
def test_kernels_that_cannot_start_leave_the_work_to_torch_with_a_warning(first_use, monkeypatch):
    def no_headers(*sizes):
        raise RuntimeError("no Python.h\nand a long tale")

    monkeypatch.setattr(inner_loop_triton, "try_out", no_headers)
    with pytest.warns(UserWarning, match=r"in torch, several times slower on a GPU \(RuntimeError: no Python.h\)"):
        assert not inner_loop_triton.takes(*given(layer_of()))


@on_gpu
def test_out_of_memory_is_no_verdict_on_the_kernels(first_use, monkeypatch):
    def crowded(*sizes):
        raise torch.OutOfMemoryError("beside seven others")

    monkeypatch.setattr(inner_loop_triton, "try_out", crowded)
    with pytest.raises(torch.OutOfMemoryError):
        inner_loop_triton.takes(*given(layer_of()))
    monkeypatch.setattr(inner_loop_triton, "try_out", lambda *sizes: None)
    assert inner_loop_triton.takes(*given(layer_of()))
