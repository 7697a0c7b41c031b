# CrossMAE on FashionScenes: photographs of garments, which come along. For a CPU and a few minutes.
# That of MAE (../mae/small.py) with CrossMAE's decoder; 16 of the 48 masked patches are predicted, a quarter of all.
_base_ = '../mae/small.py'

model = dict(
    backbone=dict(final_norm=False),
    branches=dict(
        pixels=dict(
            neck=dict(
                _delete_=True,
                type='mmmim.InterBlockDecoder',
                context_dim=96,
                embed_dim=64,
                depth=2,
                num_heads=4,
                out_dim=48,
                layers=[0, 1, 2, 3],
                grid=(8, 8),
            )
        )
    ),
)

train_dataloader = dict(collate_fn=dict(masking=dict(num_predicted=16)))
val_dataloader = dict(collate_fn=dict(masking=dict(num_predicted=16)))
test_dataloader = dict(collate_fn=dict(masking=dict(num_predicted=16)))

optim_wrapper = dict(paramwise_cfg=dict(rules=dict(no_decay=dict(match=r'\.bias$|norm\w*(\.\d+)?\.weight$'))))
