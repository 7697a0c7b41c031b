"""ConMIM (arXiv 2205.09616)."""

TABLE = r"""
[conmim/vitb16]
global_batch_size=2048  # released code: batch 2048
train_cfg: max_iters=800 * 625  # released code: 800 epochs
optim_wrapper: dtype='bfloat16', clip_norm=None  # released code: no clipping of ViT-B; float16 there, bfloat16 here
$optimizer: type='mmengine.AdamW', lr=7.5e-4, betas=(0.9, 0.98), weight_decay=0.05  # released code
$schedule: type='mmmim.truncated_cosine', start=1e-4, final=1e-5 / 7.5e-4, warmup_ratio=10 / 800, truncation=1.0
  # released code: 10 epochs of warm-up, a cosine to 1e-5; where the warm-up starts is our choice
$rules.no_decay: match=r'\.bias$|norm\d?\.weight$|norms\.\d\.weight$|scale\d\.weight$|extra_tokens$', decay_mult=0.0
  # as BEiT: what has one axis and CLS do not decay
$momentum: type='mmmim.cosine', start=0.996, final=1.0  # released code: a cosine over all steps
model.backbone: type='mmmim.ViT', img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12, fused=True
  # released code: ViT-B/16 at 224 px that sees mask tokens
model.backbone: positions='relative_shared', extra_positions=False, qkv_bias='qv', init='beit'
  # released code: as BEiT, one table of relative positions
model.backbone: layer_scale=0.1, drop_path_rate=0.0  # released code
$branches.patches: weight=1 / (2 * 0.1)  # released code: the cross-entropy as it is
$branches.patches.target_generator: type='mmmim.ProjectedLatents', projector='branches.patches.neck', out_dim=256
  # released code: the teacher has a projector, too
$branches.patches.neck: type='mmmim.BatchNormProjector', context_dim=768, hidden_dim=4096, out_dim=256
  # released code: three layers
$branches.patches.head: type='mmmim.PatchDiscriminationHead', temperature=0.1, standardize=False, candidates='all'
  # released code: all patches of the image, over 0.1
model: teacher=['backbone', 'branches.patches.neck']  # released code
$collate: patch_size=16  # released code
$masking: type='mmmim.UniformMasking', mask_ratio=0.75, unit=2  # released code: 75 % of units of 32 x 32 pixels
$images: type='mmmim.ImageFolder', data_root='data/imagenet/train'  # released code: ImageNet-1k
$pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.RandomFlip, mmmim.SecondView, mmpretrain.PackInputs
  # released code: two pictures of a crop
$pipeline.1: scale=224, crop_ratio_range=(0.2, 1.0), interpolation='bicubic'  # our choice
$pipeline.2: prob=0.5  # our choice
$pipeline.3.transforms.0: type='mmcv.RandomApply', prob=0.8  # released code
$pipeline.3.transforms.0.transforms.0: type='mmpretrain.ColorJitter', brightness=0.4, contrast=0.4, saturation=0.2,
  hue=0.1  # released code
$pipeline.3.transforms.1: type='mmcv.RandomGrayscale', prob=0.2, keep_channels=True,
  channel_weights=(0.114, 0.587, 0.299)  # released code
$pipeline.3.transforms.2: type='mmpretrain.GaussianBlur', magnitude_range=(0.1, 2.0), magnitude_std='inf', prob=0.1
  # released code: blur in one of ten; its width is our choice
$pipeline.3.transforms.3: type='mmpretrain.Solarize', thr=128, prob=0.2  # released code: one of five
"""
