# The recipe of MaskFeat in SemanticMIM (arXiv 2406.10673, table 2), with and without proxies, where it differs from
# that of BEiT: 30 epochs of warm-up, a cosine to 1e-6, gradients clipped at 0.02. As in the released code, the mask
# token does not decay, and proxies and positions do.
_base_ = './beit.py'

optim_wrapper = dict(
    clip_norm=0.02,
    optimizer=dict(lr=1.6e-3),
    paramwise_cfg=dict(rules=dict(no_decay=dict(match=r'\.bias$|norm\d?\.weight$|mask_token$'))),
)
param_scheduler = dict(schedule=dict(start=1e-6, final=1e-6 / 1.6e-3, warmup_ratio=0.1))
