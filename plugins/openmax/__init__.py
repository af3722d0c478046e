"""OpenMax (Bendale and Boult, CVPR 2016)."""
