"""CrossMAE (arXiv 2401.14391)."""

TABLE = r"""
[crossmae/vitb16: mae/vitb16]
train_cfg: max_iters=800 * 312  # released code: 800 epochs of 312 iterations
$schedule: warmup_ratio=40 / 800  # released code: 40 epochs of warm-up
$optimizer: lr=1.5e-4 * 4096 / 256  # released code: base lr 1.5e-4, times the share of masked patches predicted, all
$rules.no_decay: match=r'\.bias$|norm\w*(\.\d+)?\.weight$'
  # released code: what has one axis does not decay, mixtures, CLS and mask token do
model.backbone: final_norm=False  # released code: no norm after the last block
- $branches.pixels.neck
$branches.pixels.neck: type='mmmim.InterBlockDecoder', context_dim=768, embed_dim=512, depth=12, num_heads=16,
  out_dim=768, layers=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], grid=(14, 14)
  # released code: decoder of 12 blocks of width 512, all states of the encoder mixed
"""
