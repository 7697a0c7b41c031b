# The recipe of BEiT v2 (arXiv 2208.06366) for 300 epochs: that of BEiT with a beta2 of 0.98; the mask token and the
# table of relative positions decay.
_base_ = './beit.py'

optim_wrapper = dict(
    optimizer=dict(betas=(0.9, 0.98)),
    paramwise_cfg=dict(rules=dict(no_decay=dict(match=r'\.bias$|norm\d?\.weight$|scale\d\.weight$|extra_tokens$'))),
)
