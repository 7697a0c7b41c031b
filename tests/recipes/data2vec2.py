"""data2vec 2.0 for images (arXiv 2212.07525): the configs of the released code."""

TABLE = r"""
[data2vec2/vitb16]
global_batch_size=256  # released config: 16 GPUs x 16 images
train_cfg: max_iters=375300  # released config
optim_wrapper: dtype='bfloat16', clip_norm=4.0  # released config: gradient clipping; float16 there, bfloat16 here
$optimizer: type='mmengine.AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05  # released config
$rules.no_decay: match=r'\.bias$|norm\d?\.weight$', decay_mult=0.0  # released code: what has one axis does not decay
$schedule: type='mmmim.warmup_cosine', start=0.0, warmup_ratio=50040 / 375300
  # released config: warm-up from 0, a cosine to 0
$momentum: type='mmmim.warmup_cosine', start=0.9998, base=0.99999, final=0.99999, warmup_ratio=100000 / 375300, first=1
  # released config: linear in 100000 updates, then constant
model.backbone: type='mmmim.ViT', img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12
  # released config: two blocks and ten more
model.backbone: post_norm=True, embedding_norm=True, final_norm=False, init='data2vec2'  # released code
$branches.latent.target_generator: type='mmmim.LatentTarget', in_dim=768, layers=(2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
  state='mlp'  # released config: all of the last ten blocks; released code: what their MLPs add
$branches.latent.target_generator: normalize_layers='instance', normalize='layer', global_target='mean'
  # released config: both norms; released code: the target of CLS
$branches.latent.neck: type='mmmim.ConvolutionalDecoder', context_dim=768, embed_dim=768, depth=6, kernel=3, groups=16,
  out_dim=768, noise_std=0.01  # released config: decoder
$branches.latent.head: type='mmmim.CombinedHead'  # released code: two losses
$branches.latent.head.heads.patches: type='mmmim.RegressionHead', weight=768**0.5
  # released code: a sum over channels over the root of their number
$branches.latent.head.heads.cls: type='mmmim.RegressionHead', of='cls', weight=0.01 * 16 * 16 * 768**0.5
  # released config: weight 0.01; released code: summed over the masks of a GPU
model: teacher=['backbone']  # released code: all of the encoder is averaged
$collate: patch_size=16  # released config
$masking: type='mmmim.InverseBlocksMasking', num_visible=39, num_blocks=5, block=3, masks_per_image=16
  # released config: 80 % masked and 7 % more drawn, blocks of 3, 16 masks
$images: type='mmmim.ImageFolder', data_root='data/imagenet/train'  # released config
$pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.RandomFlip, mmpretrain.PackInputs
  # released code: crops and flips
$pipeline.1: scale=224, crop_ratio_range=(0.2, 1.0), interpolation='bicubic'  # released code
$pipeline.2: prob=0.5  # released code
"""
