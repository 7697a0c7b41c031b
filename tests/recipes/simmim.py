"""SimMIM (arXiv 2111.09886)."""

TABLE = r"""
[simmim/vitb16]
global_batch_size=2048  # released code: batch 2048
train_cfg: max_iters=800 * 625  # released code: 800 epochs of 625 iterations
optim_wrapper: dtype='bfloat16', clip_norm=5.0  # released code: clipped at 5; float16 there, bfloat16 here
$optimizer: type='mmengine.AdamW', lr=1e-4 * 2048 / 512, betas=(0.9, 0.999), weight_decay=0.05
  # released code: 1e-4 per 512 images
$schedule: type='mmmim.multi_step', start=5e-7 / 1e-4, warmup_ratio=10 / 800, milestones=[700 / 800], factor=0.1
  # released code: 10 epochs from 5e-7 per 512 images, constant, a tenth from epoch 700 on
$rules.no_decay: match=r'\.bias$|norm\d?\.weight$|scale\d\.weight$|extra_tokens$', decay_mult=0.0
  # released code: what has one axis and CLS do not decay
model.backbone: type='mmmim.ViT', img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12,
  positions='relative_shared', extra_positions=False, fused=True  # released code: ViT-B/16, shared relative positions
model.backbone: qkv_bias='qv', layer_scale=0.1, init='beit', drop_path_rate=(0.0, 0.1)
  # released code: as BEiT
$branches.pixels.target_generator: type='mmmim.PixelTarget', patch_size=16, normalize=False
  # section 3.3: pixels of the masked patches
$branches.pixels.neck: type='mmmim.PickPredicted', context_dim=768, out_dim=768, init='torch'
  # section 3.3: a linear layer
$branches.pixels.head: type='mmmim.RegressionHead', loss='l1'  # section 3.4: absolute error
$collate: patch_size=16  # released code: ViT-B/16
$masking: type='mmmim.UniformMasking', mask_ratio=0.6, unit=2  # section 3.1: 60 % of units of 32 x 32 pixels
$images: type='mmmim.ImageFolder', data_root='data/imagenet/train'  # section 4.1
$pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.RandomFlip, mmpretrain.PackInputs
  # released code: crops and flips
$pipeline.1: scale=224, crop_ratio_range=(0.67, 1.0), interpolation='bilinear'
  # released code: 67 %, bilinear
$pipeline.2: prob=0.5  # released code: flips

[simmim/swinb_192]
global_batch_size=2048  # released code: batch 2048
train_cfg: max_iters=100 * 625  # released code: 100 epochs of 625 iterations
optim_wrapper: dtype='bfloat16', clip_norm=5.0  # released code: clipped at 5; float16 there, bfloat16 here
$optimizer: type='mmengine.AdamW', lr=2e-4 * 2048 / 512, betas=(0.9, 0.999), weight_decay=0.05
  # released code: 2e-4 per 512 images
$schedule: type='mmmim.truncated_cosine', start=1e-6 / 2e-4, final=1e-5 / 2e-4, warmup_ratio=10 / 100, truncation=1.0
  # released code: 10 epochs from 1e-6 per 512 images, a cosine to 1e-5
$rules.no_decay: match=r'\.bias$|norm\d?\.weight$|relative_position_bias_table$|mask_token$', decay_mult=0.0
  # released code: what has one axis, tables of positions and the mask token of Swin do not decay
model.backbone: type='mmmim.HierarchicalEncoder', name='mmpretrain:SwinTransformer', arch='base', img_size=192,
  window_size=6, drop_path_rate=0.0, fused=True  # released code: Swin-B with windows of 6, no stochastic depth
$branches.pixels.target_generator: type='mmmim.PixelTarget', patch_size=32, normalize=False
  # section 3.3: pixels of the masked patches
$branches.pixels.neck: type='mmmim.PickPredicted', context_dim=1024, out_dim=3072, init='torch'
  # section 3.3: a linear layer
$branches.pixels.head: type='mmmim.RegressionHead', loss='l1'  # section 3.4: absolute error
$collate: patch_size=32  # section 3.1: units of 32 x 32 pixels
$masking: type='mmmim.UniformMasking', num_visible=36 - 22  # section 3.1: 60 % of 36 units, rounded up
$images: type='mmmim.ImageFolder', data_root='data/imagenet/train'  # section 4.1
$pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.RandomFlip, mmpretrain.PackInputs
  # released code: crops and flips
$pipeline.1: scale=192, crop_ratio_range=(0.67, 1.0), interpolation='bilinear'
  # released code: 192 pixels, 67 %, bilinear
$pipeline.2: prob=0.5  # released code: flips
"""
