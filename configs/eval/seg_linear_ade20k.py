# Linear segmentation of ADE20K: batch normalisation and a 1x1 convolution on frozen features, crops of 512 pixels, 40k
# iterations with batch 16. Our recipe, in the manner of DINOv2's (arXiv 2304.07193); no paper of the toolbox has it.
# Not run here.
#
# Run: tools/dist_train.sh configs/eval/seg_linear_ade20k.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/models/seg_linear.py',
    '../_base_/datasets/seg_ade20k.py',
    '../_base_/schedules/seg_linear.py',
]

global_batch_size = 16

model = dict(
    data_preprocessor=dict(size=(512, 512), seg_pad_val={{_base_.ignore_index}}),
    decode_head=dict(num_classes={{_base_.num_classes}}, ignore_index={{_base_.ignore_index}}),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
