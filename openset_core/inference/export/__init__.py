"""A finished run as one file for other programs: preprocessing, network, scorer and decision."""
