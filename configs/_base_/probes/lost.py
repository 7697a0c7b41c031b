# LOST (arXiv 2109.14279, section 3): a seed among the keys, the patch similar to the fewest, and what is similar to it.
_base_ = './discovery.py'

test_cfg = dict(probe=dict(type='mmmim.LOST', features='keys', k=100))
