"""data2vec for images (arXiv 2202.03555): the commands of the released code."""

TABLE = r"""
[data2vec/vitb16]
global_batch_size=2048  # released command: 16 GPUs x 128 images
train_cfg: max_iters=800 * 625  # released command: 800 epochs of 625 iterations
optim_wrapper: dtype='bfloat16', clip_norm=3.0  # released command: gradient clipping; float16 there, bfloat16 here
$optimizer: type='mmengine.AdamW', lr=2e-3, betas=(0.9, 0.999), weight_decay=0.05  # released command
$rules.no_decay: match=r'\.bias$|norm\d?\.weight$|scale\d\.weight$|extra_tokens$', decay_mult=0.0
  # released code: what has one axis and CLS do not decay, the mask token and the table of positions do
$schedule: type='mmmim.truncated_cosine', start=0.0, final=1e-5 / 2e-3, warmup_ratio=10 / 800, truncation=1.0
  # released command: 10 epochs of warm-up, minimum 1e-5
$momentum: type='mmmim.constant', value=0.9998  # released command: from 0.999 in no step, so 0.9998 throughout
model.backbone: type='mmmim.ViT', img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12, fused=True
  # released code: ViT-B/16 at 224 px that sees mask tokens
model.backbone: positions='relative_shared', extra_positions=False, qkv_bias='qv', init='beit'
  # released code: one table of relative positions, biases of q and v, initialisation
model.backbone: layer_scale=1e-4, drop_path_rate=(0.0, 0.25), attn_drop_rate=0.05  # released command
$branches.latent.target_generator: type='mmmim.LatentTarget', in_dim=768, layers=(6, 7, 8, 9, 10, 11)
  # released command: the last six blocks
$branches.latent.target_generator: normalize_layers='layer', normalize='layer'  # released command: both norms
$branches.latent.neck: type='mmmim.PickPredicted', context_dim=768, out_dim=768, init='beit'
  # released code: one linear layer
$branches.latent.head: type='mmmim.RegressionHead', loss='smooth_l1', beta=2.0  # equation 2; released command: beta
model: teacher=['backbone']  # equation 1: the teacher is an average of the student
$collate: patch_size=16  # released code
$masking: type='mmmim.BEiTMasking', num_visible=196 - 120, whole_grid=True  # released command: 120 patches in blocks
$images: type='mmmim.ImageFolder', data_root='data/imagenet/train'  # released command: ImageNet-1k
$pipeline: mmmim.LoadImage, mmpretrain.ColorJitter, mmmim.RandomResizedCrop, mmpretrain.RandomFlip,
  mmpretrain.PackInputs  # released code: augmentation in this order
$pipeline.1: brightness=0.4, contrast=0.4, saturation=0.4  # released code
$pipeline.2: scale=224, crop_ratio_range=(0.08, 1.0), interpolation='bicubic'  # released code
$pipeline.3: prob=0.5  # released code

[data2vec/vitl16: data2vec/vitb16]
global_batch_size=4096  # released command: 64 GPUs x 64 images
train_cfg: max_iters=800 * 312  # released command: 800 epochs of 312 iterations
$optimizer: lr=1e-3  # released command
$schedule: final=1e-5 / 1e-3, warmup_ratio=80 / 800  # released command: 80 epochs of warm-up
model.backbone: embed_dim=1024, depth=24, num_heads=16  # released code: ViT-L
model.backbone: layer_scale=1e-5, drop_path_rate=(0.0, 0.2), attn_drop_rate=0.15  # released command
$branches.latent.target_generator: in_dim=1024, layers=(18, 19, 20, 21, 22, 23)  # released command: the last six blocks
$branches.latent.neck: context_dim=1024, out_dim=1024  # released code
"""
