"""PiLaMIM (Lee et al., 2025), and the baselines of its table 1 that are recipes of their own."""

TABLE = r"""
[pilamim/vitb16]
global_batch_size=2048  # table 4
train_cfg: max_iters=800 * 625  # table 4: 800 epochs of 625 iterations
optim_wrapper: dtype='float16'
  # table 4: AdamW, base lr 1.5e-4 for 256 images, decay of everything; released code: float16
$optimizer: type='mmengine.AdamW', lr=1.5e-4 * 2048 / 256, betas=(0.9, 0.95), weight_decay=0.05
$schedule: type='mmmim.epochwise_min_cosine', epochs=800, warmup_epochs=40
  # table 4: cosine decay, 40 epochs of warm-up; released code: epoch by epoch, the lower of the two
$momentum: type='mmmim.linear', start=0.996, final=1.0  # appendix A.4: from 0.996 to 1.0, linearly
model.backbone: type='mmmim.ViT', img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12,
  positions='learnable', norm_eps=1e-5, qkv_bias=False, init='torch'
  # appendix A.4: ViT-B/16 at 224 px; released code: positions, norms, biases, initialisation
$branches.pixels.target_generator: type='mmmim.PixelTarget', patch_size=16, normalize=False
  # appendix A.4: pixels are not normalised
$branches.{pixels,latent}.neck: type='mmmim.SelfAttentionPredictor', context_dim=768, embed_dim=384, depth=6,
  num_heads=12, out_dim=768, grid=(14, 14)  # appendix A.4: 6 blocks of width 384 with 12 heads
$branches.{pixels,latent}.neck: positions='learnable', num_extra_positions=1, norm_eps=1e-5, final_norm=False,
  qkv_bias=False, init='torch'
  # released code: learned positions (one for CLS), no norm at the end, no biases of q, k, v, initialisation
$branches.pixels.head: type='mmmim.RegressionHead'  # equation 3: squared error
$branches.latent.target_generator: type='mmmim.LatentTarget', in_dim=768  # appendix A.4: latents are not normalised
$branches.latent.neck: predict_cls=True  # equation 4: CLS is predicted
$branches.latent.head: type='mmmim.CombinedHead'  # equation 4
$branches.latent.head.heads: patches=dict(type='mmmim.RegressionHead'), cls=dict(type='mmmim.RegressionHead', of='cls')
model: teacher=['backbone']  # section 3: the target encoder
$collate: patch_size=16  # appendix A.4
$masking: type='mmmim.UniformMasking', mask_ratio=0.75
$images: type='mmmim.ImageFolder', data_root='data/imagenet/train'  # table 4
$pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.RandomFlip, mmpretrain.PackInputs
  # table 4; released code: flips
$pipeline.1: scale=224, crop_ratio_range=(0.2, 1.0), interpolation='bicubic'
  # table 4: RandomResizedCrop; released code: 20 %, bicubic
$pipeline.2: prob=0.5  # released code: flips

[pilamim/vitb16_600e: pilamim/vitb16]
$schedule: epochs=600  # table 1: 600 epochs
train_cfg: max_iters=600 * 625

[pilamim/vitb16_no-cls: pilamim/vitb16]
- $branches.latent.head
$branches.latent.neck: predict_cls=False  # table 2: without CLS
$branches.latent.head: type='mmmim.RegressionHead'

[pilamim/vitb16_released: pilamim/vitb16]
$branches.{pixels.head,latent.head.heads.patches}: nominal_ratio=0.75  # released code
$branches.latent.target_generator: aligned=False
model: teacher_init='own'

[mae/vitb16_800e: mae/vitb16]
global_batch_size=2048  # table 4
$optimizer: lr=1.5e-4 * 2048 / 256  # table 4: base lr 1.5e-4 for 256 images
$schedule: warmup_ratio=40 / 800  # table 4: 40 of 800 epochs
train_cfg: max_iters=800 * 625  # table 4: 800 epochs of 625 iterations
$branches.pixels.target_generator: normalize=False  # appendix A.4: pixels are not normalised
"""
