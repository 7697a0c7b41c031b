"""MFF (arXiv 2308.00261), and PixMIM (arXiv 2303.02416) with the same crops."""

TABLE = r"""
[crops: mae/vitb16]
- $pipeline
$pipeline: mmmim.LoadImage, mmpretrain.ResizeEdge, mmpretrain.RandomCrop, mmpretrain.RandomFlip, mmpretrain.PackInputs
  # config of mmpretrain: resized, cropped, flipped
$pipeline.1: scale=224, edge='short'  # config of mmpretrain: the shorter side becomes 224
$pipeline.2: crop_size=224, padding=4, padding_mode='reflect'  # config of mmpretrain: a reflected border of 4 pixels
$pipeline.3: prob=0.5  # config of mmpretrain: flips

[mff/vitb16: crops]
train_cfg: max_iters=300 * 312  # config of mmpretrain: 300 epochs of 312 iterations
$schedule: warmup_ratio=40 / 300  # config of mmpretrain: 40 epochs of warm-up
- $branches.pixels.neck
$branches.pixels.neck: type='mmmim.MultiLevelFusion', context_dim=768, layers=[0, 2, 4, 6, 8, 11]
  # config of mmpretrain: states of six blocks
$branches.pixels.neck.neck: type='mmmim.SelfAttentionPredictor', context_dim=768, embed_dim=512, depth=8, num_heads=16,
  out_dim=768, grid=(14, 14)  # config of mmpretrain: the decoder of MAE

[mff/vitb16_800e: mff/vitb16]
train_cfg: max_iters=800 * 312  # config of mmpretrain: 800 epochs
$schedule: warmup_ratio=40 / 800  # config of mmpretrain: 40 epochs of warm-up

[pixmim/vitb16: crops]
$branches.pixels.target_generator: low_pass=40  # our reading: low frequencies of the image, with a cut-off of ours
"""
