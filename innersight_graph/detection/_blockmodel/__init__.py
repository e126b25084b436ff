"""Numerics of the latent block model behind `blockmodel_communities`; nothing here is public.

`expectation` the null model · `degrees` which degrees a row keeps · `poisson`, `gaussian` the two block likelihoods ·
`profile` from weights to blocks · `start` spectral starts · `variational` the updates and the bound ·
`search` the number of communities · `sensitive` the test against the null · `joint` the chain of layers.
"""
