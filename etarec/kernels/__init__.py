"""Faster forms of `ttt.primal`, of the TTT4Rec block and of `scoring`; each computes the same as torch, up to rounding.

A form runs where its module's `takes` says so. ETAREC_COMPILED=no counts as no C compiler. Triton is asked before C.

| operation                  | form                 | runs on                                            | tests                     |
|----------------------------|----------------------|----------------------------------------------------|---------------------------|
| inner loop                 | ttt.primal           | nothing in the product: the reference              | test_ttt.py               |
| inner loop                 | inner_loop_dual.py   | everything the next two leave                      | test_ttt.py               |
| inner loop                 | inner_loop_c.py      | CPU float32, two fast layers, F, G and M multiples | test_inner_loop_c.py      |
|                            |                      | of 8, a C compiler                                 |                           |
| inner loop                 | inner_loop_triton.py | CUDA float32, two fast layers, F <= G powers of 2  | test_inner_loop_triton.py |
|                            |                      | in 16..64, M <= 16, a C compiler, Triton           |                           |
| token-wise part of a block | tokenwise.py         | CPU float32, 1 thread, D <= 128 and W <= 512       | test_tokenwise.py         |
|                            |                      | multiples of 16, a C compiler, and a block whose   |                           |
|                            |                      | inner loop inner_loop_c.py takes                   |                           |
| ranks, Top-K, mean softmax | scores.py            | CPU float32, 1 thread, D a multiple of 16,         | test_scores.py            |
| and losses over all items  |                      | V <= 32,768, 8 K <= V, contiguous item vectors, a  |                           |
|                            |                      | C compiler                                         |                           |
| the same of given blocks   | reductions.py        | CPU float32, at most 3 threads, 8 K <= V,          | test_reductions.py        |
| of scores                  |                      | contiguous scores, a C compiler                    |                           |

Two fast layers are TTT-MLP. F head width, G hidden fast width, M mini-batch, D width, W width of the SwiGLU, V items,
K of Top-K (0 without one). With a Top-K, scores that are not finite are left to torch.
"""
