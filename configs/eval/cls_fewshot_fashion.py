# The protocol of cls_fewshot.py on FashionScenes at 32 px, for encoders of 4 x 4 patches and a CPU: 250 iterations.
#
# Run: python tools/analysis_tools/repeat.py configs/eval/cls_fewshot_fashion.py --pretrained CHECKPOINT --seeds 1 2 3 \
#     --shots 1 4 8 16
_base_ = [
    '../_base_/models/cls_linear.py',
    '../_base_/schedules/cls_fewshot.py',
    '../_base_/datasets/cls_fashion.py',
    '../_base_/pipelines/fashion.py',
]

model = dict(features=dict(cls='cls', pooled='pooled', top10='top10'), head=dict(num_classes={{_base_.num_classes}}))

train_dataloader = dict(
    num_workers=1,
    dataset=dict(
        dataset=dict(
            type='mmmim.FewShot',
            shots=16,
            seed=1,
            dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline),
        )
    ),
)
val_dataloader = dict(
    num_workers=0, dataset=dict(_base_.val_set, split='val', pipeline=_base_.val_pipeline, test_mode=True)
)
test_dataloader = dict(num_workers=0, dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))

train_cfg = dict(max_iters=250, val_interval=250)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=250))
log_processor = dict(window_size=25)
