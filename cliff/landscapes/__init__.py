"""Sibling landscapes of the field, each with its source and its law of time.

=================== ============================== ==============================================
landscape           parameters                     law
=================== ============================== ==============================================
product_of_factors  a1 … an                        a quadrature (Saxe et al., arXiv 1312.6120)
attention_and_value a, v                           √(π/2)·√d·T (Zucchet et al., 2505.17863)
memory_and_context  w, beta, m                     √(π/2)·e^(w²/2)·erfc(w/√2)·N·e^(−beta)/c
                                                   (Nguyen & Reddy, 2412.00104)
product_of_vectors  a1, a2, b1, b2, c1, c2         1/ε, ln 1/ε or O(1) with none, one or two of
                                                   three clamped (Singh et al., 2404.07129)
causal_attention    alpha, beta, gamma             √(π/2)·N² (after Musat et al., 2511.01033)
finite_dimension    beta1, alpha, xi, beta2        the nested logit where contents overlap, an
                                                   average that is held to drawn sequences
=================== ============================== ==============================================

The sources of all but the first and the last were read in their abstracts alone: their landscapes
are reconstructions, the simplest statements from which the laws follow.
"""

from cliff.landscapes.causal import causal_attention
from cliff.landscapes.factors import product_of_factors
from cliff.landscapes.finite_dimension import finite_dimension
from cliff.landscapes.memory import memory_and_context
from cliff.landscapes.sparse_attention import attention_and_value
from cliff.landscapes.vectors import product_of_vectors

GALLERY = {
    "product_of_factors": product_of_factors,
    "attention_and_value": attention_and_value,
    "memory_and_context": memory_and_context,
    "product_of_vectors": product_of_vectors,
    "causal_attention": causal_attention,
    "finite_dimension": finite_dimension,
}
"""Functions that return the landscapes, by name."""

__all__ = ["GALLERY", *GALLERY]
