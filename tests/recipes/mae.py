"""MAE (arXiv 2111.06377), and BootMAE (arXiv 2207.07116), which starts from it."""

TABLE = r"""
[mae/vitb16]
global_batch_size=4096  # table 8
train_cfg: max_iters=1600 * 312  # table 1: 1600 epochs of 312 iterations
optim_wrapper: dtype='bfloat16'  # table 8: AdamW, base lr 1.5e-4 for 256 images; bfloat16 here
$optimizer: type='mmengine.AdamW', lr=1.5e-4 * 4096 / 256, betas=(0.9, 0.95), weight_decay=0.05
$rules.no_decay: match=r'\.bias$|norm\d?\.weight$', decay_mult=0.0  # released code: biases and norms do not decay
$schedule: type='mmmim.truncated_cosine', warmup_ratio=40 / 1600, truncation=1.0
  # table 8: 40 epochs of warm-up, a cosine
model.backbone: type='mmmim.ViT', img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12
  # appendix A.1: ViT-B/16 at 224 px
$branches.pixels.target_generator: type='mmmim.PixelTarget', patch_size=16, normalize=True
  # section 3: normalised pixels of a patch
$branches.pixels.neck: type='mmmim.SelfAttentionPredictor', context_dim=768, embed_dim=512, depth=8, num_heads=16,
  out_dim=768, grid=(14, 14)  # section 4.1: decoder of 8 blocks of width 512
$branches.pixels.head: type='mmmim.RegressionHead'  # section 3: squared error
$collate: patch_size=16  # appendix A.1
$masking: type='mmmim.UniformMasking', mask_ratio=0.75  # section 4.1: 75 % masked
$images: type='mmmim.ImageFolder', data_root='data/imagenet/train'  # section 4
$pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.RandomFlip, mmpretrain.PackInputs
  # table 8; released code: flips
$pipeline.1: scale=224, crop_ratio_range=(0.2, 1.0), interpolation='bicubic'
  # table 8: RandomResizedCrop; released code: 20 %, bicubic
$pipeline.2: prob=0.5  # released code: flips

[mae/vitb16_in100: mae/vitb16]
global_batch_size=1024  # Latent MIM, table 8(a): batch, epochs, base lr, warm-up
$optimizer: lr=1.5e-4 * 1024 / 256
train_cfg: max_iters=300 * 123
$schedule: warmup_ratio=30 / 300
$images: data_root='data/imagenet100/train'  # Latent MIM, table 8(a): ImageNet-100

[projects/bootmae/configs/vitb16: mae/vitb16]
train_cfg: max_iters=800 * 312  # 800 epochs of 312 iterations
$schedule: warmup_ratio=40 / 800  # 40 of 800 epochs
$momentum: type='mmmim.truncated_cosine', start=0.999, base=0.9999, final=0.9999, warmup_ratio=100 / 800
  # our reading: from 0.999 to 0.9999 in the first 100 epochs
$branches.{pixels,features}.neck: type='mmmim.FeatureInjectionDecoder', context_dim=768, embed_dim=512, depth=2,
  num_heads=16, grid=(14, 14)  # section 3: two blocks of cross-attention to the states of a block of the encoder
$branches.pixels.neck: layer=0  # section 3: pixels from the first block
$branches.features.neck: layer=-1  # section 3: features from the last block
$branches.features.target_generator: type='mmmim.LatentTarget', in_dim=768, normalize='layer'
  # our reading: layer-normed features of the momentum encoder
$branches.features.head: type='mmmim.RegressionHead'  # section 3: squared error
model: teacher=['backbone']  # section 3: the momentum encoder
$rules.no_decay: match=r'\.bias$|norm\w*\.weight$'  # biases and norms
"""
