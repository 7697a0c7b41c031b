# Latent MIM ViT-B/16 on ImageNet-100 (arXiv 2407.15837, section 3, the optimal configuration): 300 epochs of 123
# iterations, batch 1024, learning rate 6e-4, 30 epochs of warm-up. The classes are those of CMC:
# docs/en/dataset_prepare.md.
#
# The paper's numbers: ImageNet-100 nearest neighbour 63.3, linear probing 77.3, fine-tuning 89.9 (not run here).
_base_ = './vitb16.py'

global_batch_size = 1024
auto_scale_lr = dict(base_batch_size=1024)

train_dataloader = dict(dataset=dict(dataset=dict(data_root='data/imagenet100/train')))
optim_wrapper = dict(optimizer=dict(lr=6e-4))
param_scheduler = dict(schedule=dict(warmup_ratio=0.1))
train_cfg = dict(max_iters=36_900)
