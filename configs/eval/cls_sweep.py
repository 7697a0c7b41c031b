# Probes of CAPI (arXiv 2502.08769, appendix): 10 rates x 3 weight decays on each of four features, 120 heads that are
# trained as one computation on one pass of the images: linear ones on the global feature, on the mean of the patches
# and on both, attentive ones on the patches. A tenth of the training images chooses the best head of each feature after
# the last step, and these are tested (tools/test.py chooses and tests; heads.json has all heads). "Linear" in the paper
# is `cls` or `avg_patch`, "attentive" is `patch`.
#
# The global feature is the CLS token here, and that of CAPI's own predictor in cls_sweep_predicted.py. Encoders with
# neither: --cfg-options model.features.cls=None model.features.cls_avg_patch=None. Another data set: MMMIM_DATA. At 448
# px our reading: scale and crop_size 448, the shorter side to 512.
#
# Run: tools/dist_train.sh configs/eval/cls_sweep.py 8 --pretrained CHECKPOINT
# Test: tools/dist_test.sh configs/eval/cls_sweep.py CLASSIFIER 8
_base_ = [
    '../_base_/models/cls_sweep.py',
    '../_base_/schedules/cls_sweep.py',
    '../_base_/datasets/cls_{{$MMMIM_DATA:imagenet}}.py',
    '../_base_/pipelines/rrc224.py',
]

model = dict(
    features=dict(cls='cls', avg_patch='pooled', cls_avg_patch='cls+pooled', patch='patches'),
    head=dict(num_classes={{_base_.num_classes}}),
)

train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            type='mmmim.Split',
            part='train',
            share=0.9,
            seed=42,
            dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline),
        )
    )
)
val_dataloader = dict(
    dataset=dict(
        type='mmmim.Split',
        part='val',
        share=0.9,
        seed=42,
        dataset=dict(**_base_.train_set, pipeline=_base_.val_pipeline, test_mode=True),
    )
)
test_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
