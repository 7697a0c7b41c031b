# I-JEPA ViT-H/16 on ImageNet-1k at 448 px, as the released config has it (arXiv 2301.08243): the recipe of vith14.py
# with 28 x 28 patches and 16 images on each of 128 GPUs, which the masks depend on.
#
# The paper's numbers: ImageNet-1k linear probing 81.1, fine-tuning with 1 % of the labels 77.3 (not run here).
#
# Run: tools/dist_train.sh configs/ijepa/vith16_448.py 128
_base_ = './vith14.py'

model = dict(backbone=dict(img_size=448, patch_size=16), branches=dict(latent=dict(neck=dict(grid=(28, 28)))))
train_dataloader = dict(collate_fn=dict(patch_size=16))
_base_.train_dataloader.dataset.dataset.pipeline[1].scale = 448
