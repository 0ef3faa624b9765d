"""A harness that regenerates the results of Wu et al., NeurIPS 2021.

*Do Wider Neural Networks Really Help Adversarial Robustness?* studies how the
width of a network, the strength of robust regularisation and the perturbation
stability of its predictions hang together.  ``docs/design.md`` says how this
package is laid out; ``reproduce --help`` lists what it can do.
"""

__version__ = "0.2.0"
