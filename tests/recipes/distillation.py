"""Frozen teachers: EVA (arXiv 2211.07636), MILAN (2208.06049), MVP (2203.05175), MaskDistill (2210.10615)."""

TABLE = r"""
[clip]
$branches.clip.target_generator: type='mmmim.FrozenTarget', in_dim=512, projected=True,
  checkpoint='checkpoints/clip_vit_base_16.pth.tar'  # mmpretrain: CLIPGenerator, tokens behind norm and projection
$branches.clip.target_generator.encoder: type='mmmim.TimmEncoder', name='vit_base_patch16_clip_quickgelu_224',
  num_classes=512  # mmpretrain: the file is CLIP ViT-B/16
$branches.clip.head: type='mmmim.RegressionHead', loss='cosine'  # mmpretrain: CosineSimilarityLoss(2, 2)

[distillation/eva_mae_vitb16: mae/vitb16 clip]
- $branches.pixels
train_cfg: max_iters=400 * 312  # mmpretrain: 400 epochs
$schedule: start=1e-4, warmup_ratio=40 / 400  # mmpretrain: 40 epochs from 1e-4 of the rate
$rules.no_decay: match=r'\.bias$|norm\d?\.weight$|(extra_tokens|mask_token)$'  # mmpretrain: tokens do not decay
$branches.clip.target_generator: statistics='student'  # mmpretrain: one data preprocessor, of ImageNet
$branches.clip.neck: type='mmmim.SelfAttentionPredictor', context_dim=768, embed_dim=512, depth=8, num_heads=16,
  out_dim=512, grid=(14, 14)  # mmpretrain: MAEPretrainDecoder, predict_feature_dim=512

[distillation/milan_vitb16: distillation/eva_mae_vitb16]
- $branches.clip.neck $branches.clip.head $masking
$branches.clip.target_generator: masks='importance'  # mmpretrain: MILANViT, attention of CLS in CLIP's last block
$branches.clip.neck: type='mmmim.PromptingDecoder', context_dim=768, embed_dim=512, depth=8, num_heads=16,
  out_dim=512, grid=(14, 14), predict_cls=True  # mmpretrain: MILANPretrainDecoder
$branches.clip.head: type='mmmim.CombinedHead'  # mmpretrain: no mask is given to the loss, so it is of all 197 tokens
$branches.clip.head.heads.patches: type='mmmim.RegressionHead', loss='cosine', weight=196 / 197
$branches.clip.head.heads.cls: type='mmmim.RegressionHead', loss='cosine', of='cls', weight=1 / 197
$masking: type='mmmim.PredictAll'  # mmpretrain: all tokens are compared
$masking.masking: type='mmmim.UniformMasking', mask_ratio=0.75  # mmpretrain: a quarter is visible

[distillation/mvp_vitb16: beit/vitb16 clip]
- $branches.tokens $masking
$branches.clip.neck: type='mmmim.PickPredicted', context_dim=768, out_dim=512, init='trunc_normal'
  # our reading: a linear layer, as in BEiT
$masking: type='mmmim.BEiTMasking', num_visible=121  # our reading: BEiT's 75 patches in blocks

[distillation/maskdistill_vitb16: distillation/mvp_vitb16]
$branches.clip.target_generator: normalize='layer'  # abstract: normalised features
$branches.clip.head: loss='huber'  # our reading: smooth L1
$masking: num_visible=196 - int(0.4 * 196)  # our reading: 40 % in blocks

[distillation/eva_vitg14: beit/vitb16 clip]
- $branches.tokens $masking $pipeline
global_batch_size=4096  # released code
train_cfg: max_iters=150 * 7324  # released code: 150 epochs of 30 million images
$optimizer: lr=1e-3, betas=(0.9, 0.98), eps=1e-6  # released code
$schedule: start=0.0, final=0.0, warmup_ratio=2 / 150  # released code: two epochs; the end is our reading
model.backbone: patch_size=14, embed_dim=1408, depth=40, num_heads=16, mlp_ratio=6144 / 1408, layer_scale=None
  # released code: ViT-g/14 without layer scale
$branches.clip.target_generator: in_dim=768, checkpoint='checkpoints/clip_vit_large_14.pth', statistics='student'
  # released code: CLIP ViT-L/14, whose mean and deviation the student has too
$branches.clip.target_generator.encoder: name='vit_large_patch14_clip_quickgelu_224', num_classes=768
$branches.clip.neck: type='mmmim.PickPredicted', context_dim=1408, out_dim=768, init='trunc_normal'
  # released code: a linear layer
$collate: patch_size=14  # released code
$masking: type='mmmim.BEiTMasking', num_visible=256 - 105  # released code: 105 patches in blocks
$images: type='mmmim.ImageFolder', data_root='data/imagenet22k'  # our reading: of 30 million images these
$pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.RandomFlip, mmpretrain.PackInputs
  # released code: no jitter
$pipeline.1: scale=224, crop_ratio_range=(0.2, 1.0), interpolation='bicubic'  # released code
$pipeline.2: prob=0.5  # released code: flips
"""
