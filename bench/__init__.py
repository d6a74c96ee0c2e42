"""Measures Prism against bare baselines in the same run: `make bench`.

The server has one core and the load the other. A ratio compares alternating runs of Prism and of a bare server that
does only the unavoidable work; absolute figures are for orientation, because machines differ and are noisy. Nothing
here decides anything: it prints a table with the targets beside the figures.
"""
