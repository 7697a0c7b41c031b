# Fine-tuning on ADE20K with UPerNet: the protocol of SemanticMIM (arXiv 2406.10673, table 4), 160k iterations with
# batch 16, crops of 640 pixels, a single scale.
#
# The numbers of the paper, mIoU of ViT-B/16: BEiT 40.2, with SemanticMIM 44.1; MaskFeat 42.6, with SemanticMIM 45.7
# (not run here).
#
# Run: tools/dist_train.sh configs/eval/seg_upernet_ade20k.py 8 --pretrained CHECKPOINT
# Test: tools/dist_test.sh configs/eval/seg_upernet_ade20k.py SEGMENTOR 8
_base_ = [
    '../_base_/models/seg_upernet.py',
    '../_base_/datasets/seg_ade20k.py',
    '../_base_/schedules/seg_upernet.py',
]

global_batch_size = 16

model = dict(
    data_preprocessor=dict(size=(640, 640), seg_pad_val={{_base_.ignore_index}}),
    decode_head=dict(num_classes={{_base_.num_classes}}, ignore_index={{_base_.ignore_index}}),
    auxiliary_head=dict(num_classes={{_base_.num_classes}}, ignore_index={{_base_.ignore_index}}),
    test_cfg=dict(mode='slide', crop_size=(640, 640), stride=(426, 426)),
)

_base_.train_dataloader.dataset.dataset.pipeline[2].scale = (2560, 640)
_base_.train_dataloader.dataset.dataset.pipeline[3].crop_size = (640, 640)
_base_.val_dataloader.dataset.pipeline[1].scale = (2560, 640)
_base_.test_dataloader.dataset.pipeline[1].scale = (2560, 640)
