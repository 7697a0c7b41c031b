"""Latent MIM (arXiv 2407.15837)."""

TABLE = r"""
[latent_mim/vitb16]
global_batch_size=4096  # table 8(a)
train_cfg: max_iters=800 * 312  # table 8(a): 800 epochs of 312 iterations
optim_wrapper: dtype='bfloat16'
  # table 8(a): AdamW, base lr 1.5e-4 for 256 images; float16 in the released code, bfloat16 here
$optimizer: type='mmengine.AdamW', lr=1.5e-4 * 4096 / 256, betas=(0.9, 0.95), weight_decay=0.05
$rules.no_decay: match=r'bias$|norm\w*\.|\.embed\.|patch_embed\.', decay_mult=0.0
  # released code: biases, norms and embeddings do not decay
$schedule: type='mmmim.warmup_cosine', start=0.25, base=1.0, final=0.25, warmup_ratio=40 / 800
  # table 8(a): 40 epochs of warm-up, a cosine; released code: both have a quarter of the peak as their floor
$momentum: type='mmmim.cosine', start=0.99, final=1.0  # table 8(a): target encoder momentum; released code: a cosine
default_hooks.similarity.schedule: type='mmmim.cosine', start=0.75, final=0.25
  # section 3.4: similarity constraint from 0.75 to 0.25; released code: a cosine
model.backbone: type='mmmim.ViT', img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12,
  positions='sincos_stretched', init='latent_mim'
  # table 8(a): ViT-B/16; released code: stretched positions, initialisation
model.backbone: projector_dims=(4096, 4096)  # appendix A.2: projector of three layers, 4096 wide
$branches.latent.target_generator: type='mmmim.LatentTarget', in_dim=768, sees='predicted'
  # section 3.5: the target encoder sees the patches to predict
$branches.latent.neck: type='mmmim.CrossAttentionDecoder', context_dim=768, embed_dim=512, depth=3, num_heads=16,
  visual_cues=True, grid=(14, 14)  # appendix A.2: 3 blocks of width 512 with visual cues
$branches.latent.head: type='mmmim.CombinedHead'  # equations 7 and 9
$branches.latent.head.heads.discrimination: type='mmmim.PatchDiscriminationHead', temperature=0.2  # equation 7
$branches.latent.head.heads.similarity: type='mmmim.SimilarityConstraint', weight=0.1  # equation 8
model: teacher=['backbone']  # table 8(a): a momentum encoder
$collate: patch_size=16, gap=4  # section 3.5: patches of 16 px in cells of 20 px
$masking: type='mmmim.UniformMasking', num_visible=20  # section 3.5: 90 % masked
$images: type='mmmim.ImageFolder', data_root='data/imagenet/train'  # table 8(a): ImageNet-1k
$pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.RandomFlip, mmpretrain.PackInputs
  # table 8(a): data augmentations
$pipeline.1: scale=14 * 20  # section 3.5: 14 cells of 20 px
$pipeline.1: crop_ratio_range=(0.2, 1.0), interpolation='bicubic'
  # section 3.2: crops of 20 % and more; released code: bicubic
$pipeline.2: prob=0.5  # table 8(a): RandomHorizontalFlip

[latent_mim/vitb16_in100: latent_mim/vitb16]
global_batch_size=1024  # table 8(a), main study
$images: data_root='data/imagenet100/train'  # table 8(a), main study: ImageNet-100
$optimizer: lr=1.5e-4 * 1024 / 256  # table 8(a), main study: base lr 1.5e-4
$schedule: warmup_ratio=30 / 300  # table 8(a), main study: 30 of 300 epochs
train_cfg: max_iters=300 * 123  # table 8(a), main study: 300 epochs of 123 iterations

[latent_mim/ablations/self_attention: latent_mim/vitb16_in100]
- $branches.latent.neck.visual_cues
$branches.latent.neck: type='mmmim.SelfAttentionPredictor', positions='sincos_stretched', init='latent_mim', out_dim=768
  # section 3.6: a decoder with self-attention
$branches.latent.target_generator: encoder='teacher', stop_gradient=True  # section 3.3: a momentum target

[latent_mim/ablations/self_attention_no_projector: latent_mim/ablations/self_attention]
model.backbone: projector_dims=()  # table 4: without projector

[latent_mim/ablations/gap_4_unconstrained: latent_mim/ablations/self_attention_no_projector]
- $branches.latent.head default_hooks.similarity
$branches.latent.head: type='mmmim.PatchDiscriminationHead', temperature=0.2
  # table 3: without similarity constraint
default_hooks: similarity=None

[latent_mim/ablations/ratio_90_contiguous: latent_mim/ablations/gap_4_unconstrained]
$collate: gap=0  # table 3: contiguous patches
$pipeline.1: scale=14 * 16

[latent_mim/ablations/patch_discrimination: latent_mim/ablations/ratio_90_contiguous]
$masking: num_visible=49  # tables 1 and 2: 75 % masked

[latent_mim/ablations/momentum: latent_mim/ablations/patch_discrimination]
- $branches.latent.head
$branches.latent.head: type='mmmim.RegressionHead', loss='mse'  # table 2, equations 4 to 6

[latent_mim/ablations/loss_l1: latent_mim/ablations/momentum]
$branches.latent.head: loss='l1'  # table 2, equations 4 to 6
[latent_mim/ablations/loss_huber: latent_mim/ablations/momentum]
$branches.latent.head: loss='huber'  # table 2, equations 4 to 6

[latent_mim/ablations/naive: latent_mim/ablations/momentum]
- default_hooks.target_ema
default_hooks: target_ema=None  # table 1: no momentum encoder
model: teacher=None
$branches.latent.target_generator: encoder='student', stop_gradient=False  # table 1: the encoder is its own target

[latent_mim/ablations/stop_gradient: latent_mim/ablations/naive]
$branches.latent.target_generator: stop_gradient=True  # table 1: stop gradient

[latent_mim/ablations/no_weight_sharing: latent_mim/ablations/naive]
- $branches.latent.target_generator.encoder
$branches.latent.target_generator.encoder: type='mmmim.ViT', img_size=224, patch_size=16, embed_dim=768, depth=12,
  num_heads=12, positions='sincos_stretched', init='latent_mim'  # table 1: an encoder of its own

[latent_mim/ablations/no_visual_cues: latent_mim/vitb16_in100]
$branches.latent.neck: visual_cues=False  # table 4: no visual cues
[latent_mim/ablations/decoder_8: latent_mim/vitb16_in100] $branches.latent.neck: depth=8  # table 4: 8 blocks

[latent_mim/ablations/target_depth_0: latent_mim/vitb16_in100]
- $branches.latent.target_generator default_hooks.target_ema
$branches.latent.target_generator: type='mmmim.PixelTarget', patch_size=16, normalize=True
  # table 10: pixels, normalised
$branches.latent.neck: depth=7, out_dim=768  # table 10
default_hooks: target_ema=None  # table 10: there is nothing to average
model: teacher=None

[latent_mim/ablations/target_depth_3: latent_mim/vitb16_in100]
$branches.latent.target_generator: depth=3  # table 10
$branches.latent.neck: depth=5

[latent_mim/ablations/target_depth_6: latent_mim/vitb16_in100]
$branches.latent.target_generator: depth=6  # table 10
$branches.latent.neck: depth=4

[latent_mim/ablations/target_depth_9: latent_mim/ablations/target_depth_6]
$branches.latent.target_generator: depth=9  # table 10

[latent_mim/ablations/gap_0: latent_mim/vitb16_in100]
$collate: gap=0  # table 11(a)
$pipeline.1: scale=14 * 16

[latent_mim/ablations/gap_2: latent_mim/vitb16_in100]
$collate: gap=2  # table 11(a)
$pipeline.1: scale=14 * 18

[latent_mim/ablations/gap_6: latent_mim/vitb16_in100]
$collate: gap=6  # table 11(a)
$pipeline.1: scale=14 * 22

[latent_mim/ablations/gap_8: latent_mim/vitb16_in100]
$collate: gap=8  # table 11(a)
$pipeline.1: scale=14 * 24

[latent_mim/ablations/ratio_50: latent_mim/vitb16_in100] $masking: num_visible=98  # table 11(b)
[latent_mim/ablations/ratio_75: latent_mim/vitb16_in100] $masking: num_visible=49  # table 11(b)
[latent_mim/ablations/ratio_85: latent_mim/vitb16_in100] $masking: num_visible=30  # table 11(b): 15 % of 196 is 29.4
[latent_mim/ablations/ratio_95: latent_mim/vitb16_in100] $masking: num_visible=10  # table 11(b)
[latent_mim/ablations/no_projector: latent_mim/vitb16_in100] model.backbone: projector_dims=()  # table 11(e)

[latent_mim/ablations/no_similarity: latent_mim/vitb16_in100]
- $branches.latent.head default_hooks.similarity
$branches.latent.head: type='mmmim.PatchDiscriminationHead', temperature=0.2  # table 11(c)
default_hooks: similarity=None

[latent_mim/ablations/loss_mse: latent_mim/vitb16_in100]
- $branches.latent.head.heads.discrimination
$branches.latent.head.heads.discrimination: type='mmmim.RegressionHead', loss='mse'  # table 11(f)
$branches.latent.target_generator: normalize='standard'  # released code: standardised targets
"""
