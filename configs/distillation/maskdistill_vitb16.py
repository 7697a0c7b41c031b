# MaskDistill (arXiv 2210.10615), ViT-B/16 on ImageNet-1k: as mvp_vitb16.py, with targets that are layer-normed, smooth
# L1 and 40 % of the patches in blocks. The recipe is that of ../beit/vitb16.py, since no code of the authors is known.
# No numbers: the paper's are of another recipe. Not run here.
#
# Run: tools/dist_train.sh configs/distillation/maskdistill_vitb16.py 8
# It needs the file model.branches.clip.target_generator.checkpoint.
_base_ = './mvp_vitb16.py'

model = dict(
    branches=dict(clip=dict(target_generator=dict(normalize='layer'), head=dict(loss='huber'))),
)

train_dataloader = dict(collate_fn=dict(masking=dict(num_visible=118)))
