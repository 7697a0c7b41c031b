"""BEiT v2 (arXiv 2208.06366)."""

TABLE = r"""
[beitv2/vitb16]
global_batch_size=2048  # released code: batch 2048
train_cfg: max_iters=300 * 625  # released code: 300 epochs
optim_wrapper: dtype='bfloat16', clip_norm=3.0  # released code: clipped at 3; float16 there, bfloat16 here
$optimizer: type='mmengine.AdamW', lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.05  # released code, for 300 epochs
$schedule: type='mmmim.truncated_cosine', start=1e-4, final=1e-5 / 1.5e-3, warmup_ratio=10 / 300, truncation=1.0
  # mmpretrain: 10 epochs of warm-up from 1e-4 of the rate, minimum 1e-5
$rules.no_decay: match=r'\.bias$|norm\d?\.weight$|scale\d\.weight$|extra_tokens$', decay_mult=0.0
  # mmpretrain: what has one axis and CLS do not decay, the mask token and the table of positions do
model.backbone: type='mmmim.ViT', img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12, fused=True
  # released code: ViT-B/16 at 224 px that sees mask tokens
model.backbone: positions='relative_shared', extra_positions=False, qkv_bias='qv', init='beit'
  # released code: one table of relative positions, biases of q and v, initialisation
model.backbone: layer_scale=0.1, drop_path_rate=0.0  # released code, for 300 epochs
$branches.tokens.target_generator: type='mmmim.TokenizerTarget', patch_size=16  # released code
$branches.tokens.target_generator.tokenizer: type='mmmim.VQKDTokenizer', num_tokens=8192,
  weights='checkpoints/vqkd_encoder.pth'  # mmpretrain: its file
$branches.tokens.neck: type='mmmim.PatchAggregation', context_dim=768, out_dim=8192, early_layer=8, depth=2,
  num_heads=12, layer_scale=0.1  # released code: the ninth block, two more blocks, a shared head
$branches.tokens.head: type='mmmim.CombinedHead'  # released code: the sum of two losses
$branches.tokens.head.heads.last: type='mmmim.CrossEntropyHead'  # released code
$branches.tokens.head.heads.early: type='mmmim.CrossEntropyHead', of='early'  # released code
$collate: patch_size=16  # released code
$masking: type='mmmim.BEiTMasking', num_visible=196 - 75, whole_grid=True  # released code: 75 patches in blocks
$images: type='mmmim.ImageFolder', data_root='data/imagenet/train'  # released code: ImageNet-1k
$pipeline: mmmim.LoadImage, mmpretrain.ColorJitter, mmmim.RandomResizedCrop, mmpretrain.RandomFlip,
  mmpretrain.PackInputs  # mmpretrain: colours first
$pipeline.1: brightness=0.4, contrast=0.4, saturation=0.4  # released code
$pipeline.2: scale=224, crop_ratio_range=(0.2, 1.0), interpolation='bicubic'  # released code
$pipeline.3: prob=0.5  # mmpretrain

[beitv2/vitb16_1600e: beitv2/vitb16]
train_cfg: max_iters=1600 * 625  # released code: 1600 epochs
$optimizer: betas=(0.9, 0.999)  # released code, for 1600 epochs
$schedule: warmup_ratio=10 / 1600  # mmpretrain: 10 epochs of warm-up
model.backbone: drop_path_rate=(0.0, 0.1)  # released code, for 1600 epochs
$branches.tokens.neck: drop_path_rate=(0.1 * 9 / 11, 0.1 * 10 / 11)  # released code: rates of the blocks in their place
"""
