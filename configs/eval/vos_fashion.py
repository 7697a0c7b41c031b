# Video object segmentation on MovingFashion: the protocol of vos_davis2017.py for a CPU and less than a minute, frames
# at their own size.
#
# Run: python tools/test.py configs/eval/vos_fashion.py --pretrained CHECKPOINT (or a config: random weights)
_base_ = [
    '../_base_/probes/propagation.py',
    '../_base_/datasets/vos_fashion.py',
]

test_cfg = dict(short_side=None)
