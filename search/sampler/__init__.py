"""The choice of the next configuration from results alone: pure functions over numpy and scipy.

`proposal` is the entry. It models each objective by a Gaussian process over the space's unit cube and takes the
configuration from which the area under the front is expected to gain most.
"""
