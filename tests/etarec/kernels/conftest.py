"""Compilers and libraries as a fresh process finds them."""

from collections.abc import Iterator

import pytest

from etarec.kernels import build, inner_loop_c, inner_loop_triton, reductions, scores, tokenwise


@pytest.fixture
def fresh_caches() -> Iterator[None]:
    """Clears the caches of compilers and libraries, before the test and after it."""
    libraries = (module._library for module in (inner_loop_c, reductions, scores, tokenwise))
    caches = (build.compiler, build.library, inner_loop_triton._starts, *libraries)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()
