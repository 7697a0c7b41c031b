"""I-JEPA (arXiv 2301.08243): appendix A, and the released configs for ViT-H and for what the paper leaves out."""

TABLE = r"""
[ijepa/vitb16]
global_batch_size=2048  # appendix A.1: batch size
train_cfg: max_iters=600 * 625  # appendix A.1: 600 epochs of 625 iterations
optim_wrapper: dtype='bfloat16'
  # appendix A.1: AdamW, learning rate, weight decay 0.04 to 0.4; released configs: betas, bfloat16
$optimizer: type='mmengine.AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.4
$rules.no_decay: match=r'bias$|norm\w*\.weight$', decay_mult=0.0  # released code: biases and norms do not decay
param_scheduler.lr.schedule: type='mmmim.warmup_cosine', start=0.1, base=1.0, final=1e-3, warmup_ratio=15 / 600, first=1
  # appendix A.1: 15 epochs from 1e-4 to 1e-3, then a cosine to 1e-6; released code: the first step is step 1
param_scheduler.weight_decay.schedule: type='mmmim.cosine', start=0.04 / 0.4, final=1.0, first=1
  # appendix A.1: from 0.04 to 0.4; released code: by a cosine
$momentum: type='mmmim.linear', start=0.996, final=1.0  # appendix A.1: momentum from 0.996 to 1, linearly
model.backbone: type='mmmim.ViT', img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12, num_cls_tokens=0,
  init='trunc_normal'  # section 4: ViT-B/16 at 224 px without CLS; released code: initialisation
$branches.latent.target_generator: type='mmmim.LatentTarget', in_dim=768, normalize='layer'
  # section 3; released code: targets are layer-normed
$branches.latent.neck: type='mmmim.SelfAttentionPredictor', context_dim=768, embed_dim=384, depth=6, num_heads=12,
  out_dim=768, grid=(14, 14), init='trunc_normal'  # appendix A.1: 6 blocks of width 384 with the heads of the encoder
$branches.latent.head: type='mmmim.RegressionHead', loss='huber'  # released code: smooth L1 (paper: squared error)
model: teacher=['backbone']  # section 3: the target encoder
$collate: patch_size=16  # section 4: patches
$masking: type='mmmim.MultiBlockMasking', num_targets=4, target_scale=(0.15, 0.2), target_aspect=(0.75, 1.5),
  num_contexts=1, context_scale=(0.85, 1.0)  # appendix A.1: masks
$masking: min_keep=10  # released configs
$images: type='mmmim.ImageFolder', data_root='data/imagenet/train'  # section 4
$pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.PackInputs  # released configs: crops and no flip
$pipeline.1: scale=224, crop_ratio_range=(0.3, 1.0), interpolation='bilinear'

[ijepa/vitl16: ijepa/vitb16]
model.backbone: embed_dim=1024, depth=24, num_heads=16  # appendix A.1
$branches.latent.target_generator: in_dim=1024
$branches.latent.neck: context_dim=1024, depth=12, num_heads=16, out_dim=1024

[ijepa/vith14: ijepa/vitl16]
train_cfg: max_iters=300 * 625  # released config in1k_vith14_ep300: 300 epochs of 625 iterations
param_scheduler.lr.schedule: start=0.2, warmup_ratio=40 / 300  # released config in1k_vith14_ep300: 40 epochs from 2e-4
model.backbone: patch_size=14, embed_dim=1280, depth=32  # released config in1k_vith14_ep300
$branches.latent.target_generator: in_dim=1280
$branches.latent.neck: context_dim=1280, out_dim=1280, grid=(16, 16)
$collate: patch_size=14

[ijepa/vith16_448: ijepa/vith14]
model.backbone: img_size=448, patch_size=16  # released config in1k_vith16-448_ep300
$branches.latent.neck: grid=(28, 28)
$collate: patch_size=16
$pipeline.1: scale=448
"""
