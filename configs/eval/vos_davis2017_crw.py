# Video object segmentation on DAVIS-2017 val with the settings of CRW (Jabri et al. 2020, arXiv 2006.14613, the
# released code), whose protocol Latent MIM names (arXiv 2407.15837): frames at their own size; 20 frames of context,
# copies of the first one before it, and the first frame once more without a neighbourhood; a circle; exactly ten
# neighbours; soft labels resized to the original size.
#
# CRW's radius of 12 is in cells of 8 pixels of its ResNet, and here in patches, whatever their size: our choice, as CRW
# has no Vision Transformers. It is below 12, not 12 itself. CRW's ResNet-18 has J&F 67.6 so (its page; not run here).
#
# Run: python tools/test.py configs/eval/vos_davis2017_crw.py --pretrained CHECKPOINT
_base_ = './vos_davis2017.py'

test_cfg = dict(
    short_side=None,
    propagation=dict(
        context=20,
        radius=11.99,  # the same patches as all distances below 12
        shape='circle',
        topk=10,
        keep_ties=False,
        temperature=0.05,
        free_first=True,
        repeat_first=True,
        min_max=False,
        first_labels='bilinear',
        upsample='original',
    ),
)
