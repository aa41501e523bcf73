"""Faster forms of `ttt.primal`, the TTT4Rec block, `scoring` and `likelihood`. All compute the same, up to rounding.

A form runs where its module's `takes` says so; inner_loop.py asks Triton before C. ETAREC_COMPILED=no counts as no C
compiler. Where no other form takes the tensors, torch computes: inner_loop_dual.py, models/ttt4rec.py,
scoring.py and likelihood.py.

| operation              | form                 | runs on                                  | tests                     |
|------------------------|----------------------|------------------------------------------|---------------------------|
| inner loop             | ttt.primal           | nothing in the product: the reference    | test_ttt.py               |
| inner loop             | inner_loop_dual.py   | everything that the next two leave       | test_ttt.py               |
| inner loop             | inner_loop_c.py      | CPU float32, two fast layers, F, G and M | test_inner_loop_c.py      |
|                        |                      | multiples of 8, a C compiler             |                           |
| inner loop             | inner_loop_triton.py | CUDA float32, two fast layers, F <= G    | test_inner_loop_triton.py |
|                        |                      | powers of 2 in 16..64, M <= 16, a C      |                           |
|                        |                      | compiler, Triton                         |                           |
| token-wise part of a   | tokenwise.py         | CPU float32, 1 thread, D <= 128 and W <= | test_tokenwise.py         |
| block                  |                      | 512, both multiples of 16, a C compiler, |                           |
|                        |                      | and a block whose inner loop             |                           |
|                        |                      | inner_loop_c.py takes                    |                           |
| ranks, Top-K, mean     | scores.py            | CPU float32, 1 thread, D a multiple of   | test_scores.py            |
| softmax and losses     |                      | 16, V <= 32,768, 8 K <= V, contiguous    |                           |
| over all items         |                      | item vectors, a C compiler               |                           |
| reductions of given    | reductions.py        | CPU float32, at most 3 threads, 8 K <=   | test_reductions.py        |
| blocks of scores       |                      | V, contiguous scores, a C compiler       |                           |

Two fast layers are TTT-MLP. F head width, G hidden fast width, M mini-batch, D width, W width of the SwiGLU, V items,
K of Top-K (0 without one). A Top-K of scores that are not all finite is left to torch.
"""
