# Probes of 10 rates x 3 weight decays at once, as CAPI has them (arXiv 2502.08769), on frozen features of an encoder:
# which ones, `features` says by the names that the heads have. Tokens are read by attentive heads, vectors by linear
# ones. Numbers of the encoder are filled in by --pretrained.
_base_ = './cls_linear.py'

model = dict(
    head=dict(
        _delete_=True,
        type='mmmim.ProbeSweep',
        rates=[1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2],
        decays=[5e-4, 1e-3, 5e-2],
        std=0.02,
    ),
    reduction='mean',
)
