# cls_sweep_fashion.py with the attentive heads of the patches alone, for encoders of any kind.
#
# Run: python tools/train.py configs/eval/cls_attentive_fashion.py --pretrained CHECKPOINT
_base_ = './cls_sweep_fashion.py'

model = dict(features=dict(cls=None, avg_patch=None, cls_avg_patch=None))
