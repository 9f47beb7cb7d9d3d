"""Methods that read a model's activations.

May import `store` and `workbench`, never `steering`: the two meet through plain tensors.
"""
