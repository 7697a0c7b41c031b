# TokenCut (arXiv 2202.11539, section 3): a normalised cut of the graph of similar keys.
_base_ = './discovery.py'

test_cfg = dict(probe=dict(type='mmmim.TokenCut', features='keys', tau=0.2, eps=1e-5))
