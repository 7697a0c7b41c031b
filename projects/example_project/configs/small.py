# MAE on FashionScenes with whole rows hidden, and a cosine distance instead of the squared error: a minute on a CPU.
_base_ = '{{$MMMIM_CONFIGS:../../../configs}}/mae/small.py'
custom_imports = dict(
    imports=[
        'projects.example_project.masking',
        'projects.example_project.head',
    ]
)

model = dict(branches=dict(pixels=dict(head=dict(_delete_=True, type='mmmim.CosineHead'))))

# `_delete_` drops what the base says of its own strategy, which this one does not know.
masking = dict(type='mmmim.RowMasking', visible_rows=2)
train_dataloader = dict(collate_fn=dict(masking=dict(_delete_=True, **masking)))
val_dataloader = dict(collate_fn=dict(masking=dict(_delete_=True, **masking)))
test_dataloader = dict(collate_fn=dict(masking=dict(_delete_=True, **masking)))

train_cfg = dict(max_iters=100, val_interval=100)
default_hooks = dict(checkpoint=dict(interval=100), health=dict(interval=50), probe=dict(interval=100))
