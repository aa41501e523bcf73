"""A model of the results over the space: the space as a unit cube, and a Gaussian process over its points.

The sampler proposes by it, and front and choice may go by it (`search.front: modelled`).
"""
