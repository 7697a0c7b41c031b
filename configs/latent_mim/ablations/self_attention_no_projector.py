# Latent MIM, tables 3 and 4: with similarity constraints, before decoder and projector change.
# Paper, on ImageNet-100: nearest neighbour 56.8, linear probing 72.9, fine-tuning 88.5 (not run here).
_base_ = './gap_4_unconstrained.py'

model = dict(
    branches=dict(
        latent=dict(
            head=dict(
                _delete_=True,
                type='mmmim.CombinedHead',
                heads=dict(
                    discrimination=dict(type='mmmim.PatchDiscriminationHead', temperature=0.2),
                    similarity=dict(type='mmmim.SimilarityConstraint', weight=0.1),
                ),
            )
        )
    )
)
default_hooks = dict(
    similarity=dict(
        _delete_=True,
        type='mmmim.ScheduledValueHook',
        name='branches.latent.head.heads.similarity.target',
        schedule=dict(type='mmmim.cosine', start=0.75, final=0.25),
    )
)
